"""Datasets in, students out."""
