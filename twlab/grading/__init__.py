"""Grading: runs what students claim in the lab kernel.

`docs/grading.md` describes the formats."""
