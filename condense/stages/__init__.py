"""Entry points of condensation, one stage a file."""
