"""Publishing to the Hugging Face Hub: gates, then the folder in the Hub's own form, its card, and the upload."""
