"""What stages promise each other: records, dataset directories, params, the stage runner, seeds, errors.

The lowest layer: it imports nothing of ours, and neither torch nor transformers, datasets nor pyarrow.
"""
