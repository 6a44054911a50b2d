"""A Tucker decomposition coded by the wavelet codec's quantiser and learned coder: `codecs.tucker`.

Imported only where something is coded: the coder needs the kernels' compiler.
"""
