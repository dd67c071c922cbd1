"""Thin entry points: each reads its inputs and params, trains or evaluates, and writes one folder."""
