"""`datastill report`: the stage, or with --compare two runs side by side."""

from collections.abc import Sequence

from datagen.contracts.stage import load_stage
from datagen.contracts.stage import main as run_stage
from datagen.report import compare


def main(argv: Sequence[str]) -> int:
    """Run the one that was meant."""
    if any(word == "--compare" or word.startswith("--compare=") for word in argv):
        return compare.main(argv)
    return run_stage(load_stage("report"), argv)
