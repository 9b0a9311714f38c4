"""Grading: what students claim, checked by running it in the lab kernel. `docs/guides/grading.md`
describes the formats.
"""
