"""The ladder diagram: from a capture to arrows, states and folds.

- `ladder`: the ladder of one arm; `arrows`, `transits`, `rows` are its parts.
- `states`: TCP states inferred at both ends.
- `folding`: bulk as one row.
- `svg`, `text`: the two drawings.
"""
