"""Figures by matplotlib: `heatmap`, `ceiling_plot`."""
