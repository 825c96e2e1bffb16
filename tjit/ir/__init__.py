"""Types, dims, ops, graphs, and their text."""
