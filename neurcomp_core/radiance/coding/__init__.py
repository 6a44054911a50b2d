"""Learned entropy coding of what radiance fields are made of: occupancy, voxel attributes, indices, floats."""
