"""TTHRESH's bit stream: a Tucker transform, bit planes, run lengths and a static arithmetic coder.

Ballester-Ripoll, Lindstrom, Pajarola, "TTHRESH: Tensor Compression for Multidimensional Visual Data", IEEE TVCG 26(9),
2019. Streams are those of the authors' program, in both directions.
"""
