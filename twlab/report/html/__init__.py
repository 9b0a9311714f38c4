"""The report as one HTML file.

- `page`: writes it; `sections` makes its parts; `filling` fills in templates.
- `ladders`, `packing`: ladders as SVG, packed until they are opened.
- `topology_svg`, `line_chart`, `series`: drawings and what they show.
- `wording`: verdicts in words.
- `plan_page`: the page of `twlab plan`.
"""
