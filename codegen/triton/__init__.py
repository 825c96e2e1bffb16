"""Kernels to Triton source."""
