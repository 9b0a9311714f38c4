"""Figures by matplotlib: `heatmap`, `ceiling_plot`; `lean` imports it."""
