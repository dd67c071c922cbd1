"""Training data that an open model gives back: what it writes from its chat template alone, and whose rows those are.

Extracting alignment data in open models. 2025. arXiv:2510.18554. For auditing one's own and open models; what is
extracted keeps its source's licence.

calibration      the threshold at which a text that nobody was trained on hardly ever matches
chat_prefix      the turns that a post-trained model writes after nothing but its template's start
embedding_match  nearest rows of a training set by the cosine of their embeddings
judging          pairs for a person to judge
match_table      one row for each extracted text
matching         the measures side by side
string_match     nearest rows by edit distance and by indel distance
texts            the text of a row that is compared

They are no family of methods, as they share no signature: no function is named like its file.
"""
