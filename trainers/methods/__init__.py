"""Students that need more than one loss on one network; a family a folder."""
