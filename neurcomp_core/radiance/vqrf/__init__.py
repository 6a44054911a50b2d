"""Compression of voxel radiance fields: prune, share features, fine-tune, quantise, code."""
