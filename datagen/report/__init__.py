"""The report: one HTML page, complete in itself, that shows a run from its prompts to what its student can do.

figures.py counts, in polars, over the dataset directories; page.py writes what was counted, with charts.py and
markup.py; style.css is its look.
"""
