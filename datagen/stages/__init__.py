"""Thin entry points: each reads its inputs and params, calls one method, and writes one dataset directory."""
