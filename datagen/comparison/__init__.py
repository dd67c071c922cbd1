"""What teachers are worth, told from their answers to the same prompts, and references that their answers correct.

teachers.py    several teachers' datasets, folders in a folder
repetition.py  how much a text repeats itself
figures.py     the figures of each teacher, by family and overall
ordering.py    whether families and the overall figure put the teachers into one order
page.py        all of it on one page
majority.py    what most answers to a prompt say, and whether its reference should give way
"""
