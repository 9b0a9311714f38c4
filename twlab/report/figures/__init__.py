"""Figures by matplotlib, which `lean` imports: `heatmap`, `ceiling_plot`."""
