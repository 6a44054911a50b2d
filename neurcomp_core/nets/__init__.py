"""Coordinate networks: encodings, multi-layer perceptrons, and their kernels."""
