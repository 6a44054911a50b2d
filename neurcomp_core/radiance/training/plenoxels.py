"""Plenoxels: a sparse voxel grid of density and spherical harmonics, trained from posed images.

Fridovich-Keil, Yu et al., Plenoxels: Radiance Fields without Neural Networks (CVPR 2022), sections 3.1-3.5.
"""

from __future__ import annotations

from neurcomp_core import threads
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.training.plenoxels_course import Course
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe
from neurcomp_core.radiance.training.watch import Watch

__all__ = ["PlenoxelsRecipe", "train"]


def train(
    data: PosedImages, recipe: PlenoxelsRecipe, context: RadianceContext, watch: Watch | None = None
) -> SparseGrid:
    """Train a grid.

    Parameters
    ----------
    data : PosedImages
        Training images alone.
    recipe : PlenoxelsRecipe
    context : RadianceContext
        Its threads, seed, device, progress and checkpoint. The same threads, seed and device give the same grid, also
        of a run that was stopped and went on from its checkpoint.
    watch : Watch, optional
        Called about 40 times, and before the grid is refined.

    Returns
    -------
    SparseGrid
        In the coordinates of ``data.box``; of an unbounded scene with background spheres.

    Raises
    ------
    Interrupted
        With the grid so far as its ``best``; the checkpoint has it, too.
    InputError
        If nothing of the scene is in the box, or the checkpoint is another run's.
    """
    with threads.limit(context.threads):
        return Course(data, recipe, context, watch).run()
