"""The report on a terminal: `show`, `story`, `tables`, `facts`."""
