"""What can be rendered besides a sparse grid: anything that has density and colour at points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from neurcomp_core.progress import Progress
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.dvgo_march import THRESHOLD
from neurcomp_core.radiance.rendering.dvgo_render import DvgoRenderer
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.march import Integrals, MarchOptions
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.scenes import Scene

if TYPE_CHECKING:
    from neurcomp_core.radiance.rendering.views import View


class PointField(Protocol):
    """Density and colour at points; zero density outside the box."""

    @property
    def box(self) -> np.ndarray:
        """Low and high corner ``(2, 3)`` in x, y, z."""
        ...

    @property
    def voxel(self) -> np.ndarray:
        """Edges ``(3,)`` of the voxel that steps refer to."""
        ...

    @property
    def occupancy(self) -> Occupancy:
        """Free space; its frame's box is `box`. `Occupancy.full` where nothing is known."""
        ...

    def density(self, points: np.ndarray) -> np.ndarray:
        """``(n,)``, not negative, per unit length, at points ``(n, 3)``."""
        ...

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """RGB ``(n, 3)`` at points seen along unit directions ``(n, 3)``."""
        ...


@runtime_checkable
class RayField(Protocol):
    """What samples its rays itself."""

    @property
    def ray_nbytes(self) -> int:
        """About how many bytes of temporary arrays a ray takes."""
        ...

    def integrate(self, rays: Rays, options: MarchOptions, normals: bool = False) -> Integrals:
        """What rays meet."""
        ...


@runtime_checkable
class ViewField(Protocol):
    """What makes whole pictures itself, its rays included: `device_fields.DeviceField`."""

    def view(
        self,
        data: PosedImages,
        view: int,
        *,
        options: MarchOptions | None = None,
        normals: bool = False,
        progress: Progress | None = None,
    ) -> View:
        """See `views.render_view`."""
        ...


@dataclass(frozen=True, eq=False)
class SceneField:
    """An analytic scene, marched in steps of a voxel of edge `size`."""

    scene: Scene
    size: float

    @property
    def box(self) -> np.ndarray:
        return self.scene.box()

    @property
    def voxel(self) -> np.ndarray:
        return np.full(3, self.size)

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy.full(GridFrame((1, 1, 1), self.box))

    def density(self, points: np.ndarray) -> np.ndarray:
        return self.scene.density(points)

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return self.scene.color(points, directions)


@dataclass(frozen=True, eq=False)
class DvgoField:
    """A DVGO model, free space by its mask.

    `views` renders it by `renderer`, not by its values at points: samples whose opacity in a step, or whose rendering
    weight, is not above `threshold` are left out.
    """

    model: DvgoModel
    threshold: float = THRESHOLD

    @property
    def box(self) -> np.ndarray:
        return self.model.box

    @property
    def voxel(self) -> np.ndarray:
        z, y, x = self.model.density.shape
        return GridFrame((z, y, x), self.box, centered=False).voxel

    @property
    def occupancy(self) -> Occupancy:
        z, y, x = self.model.density.shape
        if self.model.mask is None or min(self.model.mask.shape) < 2:
            return Occupancy.full(GridFrame((z, y, x), self.box, centered=False))
        a, b, c = self.model.mask.shape
        return Occupancy.of(self.model.mask, GridFrame((a, b, c), self.box, centered=False))

    def renderer(self, options: MarchOptions | None = None) -> DvgoRenderer:
        """The model with its geometry, to be rendered at once."""
        return DvgoRenderer.of(self.model, options, self.threshold)

    def density(self, points: np.ndarray) -> np.ndarray:
        return self.model.sigma(points)

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return self.model.colors(points, directions)
