"""Grading: runs what students claim in the lab kernel.

`docs/guides/grading.md` describes the formats."""
