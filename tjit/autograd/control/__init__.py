"""Gradients of control flow: rules of `if`, `for` and `while`, which differentiate the graphs of their regions."""
