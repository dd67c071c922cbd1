"""Teacher hacking: a student comes nearer to its teacher while it leaves what the teacher stands for.

Tiapkin et al. On Teacher Hacking in Language Model Distillation. ICML 2025. arXiv:2502.02671.

setting     what is varied: number of prompts, answers to each, which data are fresh
tabular     a world of a few tokens, where distances to teacher and oracle are exact
departure   a detector that sees the teacher and never the oracle
figures     what a run says
"""
