"""Python functions to graphs."""
