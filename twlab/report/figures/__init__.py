"""Figures by matplotlib, which `lean` imports: `heatmap`, `ceiling_plot`. `write` makes their files."""
