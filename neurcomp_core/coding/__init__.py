"""Entropy coding, bit packing, quantisers: pure pairs of a function and its inverse."""
