"""Where a student's signal comes from.

cached.py: datasets of TokenSignals, written once by `datastill teacher_signals`.
"""
