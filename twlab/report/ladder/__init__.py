"""The ladder diagram of one arm.

- `transits`: joins what several interfaces saw of a segment.
- `numbering`, `arrows`, `states`: what each segment and socket was.
- `rows`, `folding`, `ladder`: what stands in the ladder, and what is folded.
- `text`, `svg`: drawings.
"""
