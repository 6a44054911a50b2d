"""Radiance fields: posed images, analytic scenes, voxel grids, and trained models of other programs."""
