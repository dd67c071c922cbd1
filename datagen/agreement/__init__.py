"""How far labels can be trusted: whether a classifier, the teacher when asked again, and people give the same.

labels.py       which labels there are, and those that a row has by each judge
statistics.py   what two judges, or several, have in common beyond chance, with intervals
classifier.py   the labels that a trained classifier gives
second_pass.py  the labels that the teacher gives when it is asked again
sheet.py        a sheet for people who judge without seeing the labels, as HTML (sheet.js, sheet.css) and as CSV
reviews.py      what they answered
figures.py      what metrics say of each judge
"""
