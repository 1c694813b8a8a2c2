"""A run, or several, as one HTML page for a data owner: what was reached, at what cost."""
