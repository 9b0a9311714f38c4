"""Claims, one a file.

The file is the specification: hypothesis, arms with their predictions, steps.
"""
