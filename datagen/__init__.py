"""Prompts and text in, verified text datasets out."""
