"""Fused marching through a sparse grid: integrals along rays, gradients with respect to its rows, voxel importance.

NumPy arrays in and out, so that a field is rendered where there is no torch; `neurcomp_core.radiance.rendering.fused`
has the same as a torch function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.ranges import over_ranges, thread_count
from neurcomp_core.radiance.shared import SharedGrid

_OWN = np.zeros(0, np.int32)


@dataclass(frozen=True)
class MarchOptions:
    """How rays are sampled.

    Attributes
    ----------
    step : float
        In voxels, along the ray in the grid's coordinates (svox2: 0.5).
    stop : float
        A ray ends when its transmittance has fallen below this; what is left of it falls on the background.
    """

    step: float = 0.5
    stop: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.step < np.inf:
            raise InputError(f"step: expected a positive number of voxels, got {self.step}")
        if not 0 <= self.stop < 1:
            raise InputError(f"stop: expected a transmittance of at least 0 and below 1, got {self.stop}")


@dataclass(frozen=True, eq=False)
class Integrals:
    """What rays have met.

    Attributes
    ----------
    color : ndarray ``(rays, 3)`` float64
        Premultiplied by opacity, without background.
    opacity : ndarray ``(rays,)`` float64
        1 - transmittance.
    depth : ndarray ``(rays,)`` float64
        Sum of rendering weight times t: mean t times opacity.
    penalty : ndarray ``(rays,)`` or ``(0,)`` float64
        Sum of log(1 + 2 density^2) over samples, if asked for (Plenoxels, section 3.6).
    normal : ndarray ``(rays, 3)`` or ``(0, 3)`` float64
        Sum of weight times unit vector against the density's gradient, if asked for.
    stops : ndarray ``(rays,)`` int64
        Steps walked; the backward pass needs them.
    """

    color: np.ndarray
    opacity: np.ndarray
    depth: np.ndarray
    penalty: np.ndarray
    normal: np.ndarray
    stops: np.ndarray


@dataclass(frozen=True, eq=False)
class March:
    """A sparse grid's geometry, through which rays are marched; the values of its rows are given to each call.

    Parameters
    ----------
    links : ndarray ``(z, y, x)`` int32
        Not to be changed in place afterwards.
    frame : GridFrame
    occupancy : Occupancy, optional
        Of the same frame; made from the links if left out. It must be made anew when voxels are added.
    options : MarchOptions
    """

    links: np.ndarray
    frame: GridFrame
    occupancy: Occupancy | None = None
    options: MarchOptions = MarchOptions()

    def __post_init__(self) -> None:
        if self.links.shape != self.frame.shape:
            raise InputError(f"links {self.links.shape} and frame {self.frame.shape}: expected the same shape")
        object.__setattr__(self, "links", np.ascontiguousarray(self.links, np.int32))
        if self.occupancy is None:
            object.__setattr__(self, "occupancy", Occupancy.of(self.links >= 0, self.frame))
        elif self.occupancy.frame.shape != self.frame.shape:
            raise InputError(
                f"occupancy of {self.occupancy.frame.shape}, grid of {self.frame.shape} samples: expected one frame"
            )

    @classmethod
    def of(cls, grid: SparseGrid | SharedGrid, options: MarchOptions | None = None) -> March:
        """The geometry of a sparse grid."""
        return cls(grid.links, GridFrame.of(grid), None, options or MarchOptions())

    @cached_property
    def arguments(self) -> tuple:
        """What kernels take of it: links, box, scale, offset, and the occupancy's distance and block."""
        assert self.occupancy is not None
        frame = self.frame
        return self.links, frame.box, frame.scale, frame.offset, self.occupancy.distance, self.occupancy.block

    @cached_property
    def _rows(self) -> int:
        return int(self.links.max()) + 1

    def _check_rows(self, rows: int) -> None:
        # Kernels look nothing up twice: a link beyond the rows would be read as it is.
        if rows < self._rows:
            raise InputError(f"links lead to {self._rows} rows, but {rows} are given; make a March of the new links")

    def checked(self, density: np.ndarray, sh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows as kernels take them, ``(rows,)`` and ``(rows, 3 functions)``; InputError if they do not fit."""
        rows = len(density)
        if density.ndim != 1 or sh.ndim != 3 or sh.shape[:2] != (rows, 3):
            raise InputError(
                f"expected density (rows,) and sh (rows, 3, functions), got {density.shape} and {sh.shape}"
            )
        if density.dtype != sh.dtype or density.dtype.kind != "f":
            raise InputError(f"density and sh: expected one float type, got {density.dtype} and {sh.dtype}")
        self._check_rows(rows)
        return np.ascontiguousarray(density), np.ascontiguousarray(sh).reshape(rows, 3 * sh.shape[2])

    def _shared(self, density: np.ndarray, sh: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`checked` of rows whose coefficients are in shared ones."""
        rows = len(density)
        if sh.ndim != 3 or sh.shape[1] != 3 or slots.shape != (rows,) or not rows:
            raise InputError(f"expected slots ({rows},) and sh (n, 3, functions), got {slots.shape} and {sh.shape}")
        if slots.min() < 0 or slots.max() >= len(sh):
            raise InputError(f"slots: expected rows below {len(sh)}, got {slots.min()} to {slots.max()}")
        self._check_rows(rows)
        return np.ascontiguousarray(density), np.ascontiguousarray(sh).reshape(len(sh), 3 * sh.shape[2])

    def forward(
        self,
        density: np.ndarray,
        sh: np.ndarray,
        rays: Rays,
        fractions: np.ndarray | None = None,
        *,
        penalty: bool = False,
        normals: bool = False,
        slots: np.ndarray | None = None,
    ) -> Integrals:
        """Colour, opacity and depth of rays.

        Parameters
        ----------
        density : ndarray ``(rows,)`` float32 or float64
        sh : ndarray ``(rows, 3, functions)`` of the same type
        rays : Rays
        fractions : ndarray ``(rays,)``, optional
            Where in each of its steps a ray is sampled, from 0 to 1; 0.5 (midpoints) if left out, random for jitter.
        penalty, normals : bool
            Whether to sum these, too.
        slots : ndarray ``(rows,)`` int32, optional
            Row of `sh` that each row of `density` has; then `sh` may have any number of them.

        Raises
        ------
        InputError
            If shapes or types disagree.
        """
        density, sh = self.checked(density, sh) if slots is None else self._shared(density, sh, slots)
        n = len(rays)
        out = Integrals(
            np.zeros((n, 3)), np.zeros(n), np.zeros(n), np.zeros(n if penalty else 0),
            np.zeros((n if normals else 0, 3)), np.zeros(n, np.int64),
        )  # fmt: skip
        if not len(density):
            return out
        from neurcomp_core.radiance.rendering import march_kernels

        options = ray_fractions(fractions, n), float(self.options.step), float(self.options.stop)
        results = out.color, out.opacity, out.depth, out.penalty, out.normal, out.stops
        own = _OWN if slots is None else np.ascontiguousarray(slots, np.int32)
        given = (*ray_arguments(rays, sh), *options, *self.arguments, density, sh, own, *results)

        def work(part: int, first: int, last: int) -> None:
            march_kernels.forward(first, last, *given)

        over_ranges(n, work)
        return out

    def backward(
        self,
        density: np.ndarray,
        sh: np.ndarray,
        rays: Rays,
        integrals: Integrals,
        into: Gradients,
        fractions: np.ndarray | None = None,
        *,
        color: np.ndarray | None = None,
        opacity: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        penalty: np.ndarray | float = 0.0,
    ) -> None:
        """Add the gradient of a loss with respect to the rows to `into`.

        Parameters
        ----------
        density, sh, rays, fractions
            As given to `forward`.
        integrals : Integrals
            What `forward` gave for them.
        into : Gradients
        color : ndarray ``(rays, 3)``; opacity, depth, penalty : ndarray ``(rays,)``, optional
            Derivatives of the loss with respect to the integrals. Over a background b, a loss on
            ``color + (1 - opacity) b`` has ``-(its derivative) . b`` with respect to opacity.
        """
        density, sh = self.checked(density, sh)
        n = len(rays)
        if integrals.opacity.shape != (n,):
            raise InputError(f"integrals of {len(integrals.opacity)} rays, but {n} rays are given")
        into.check(density, sh)
        if not len(density):
            return
        from neurcomp_core.radiance.rendering import march_kernels

        upstream = [
            np.ascontiguousarray(np.broadcast_to(0.0 if g is None else g, shape), np.float64)
            for g, shape in ((color, (n, 3)), (opacity, n), (depth, n), (penalty, n))
        ]
        options = ray_fractions(fractions, n), float(self.options.step)
        seen = integrals.color, integrals.opacity, integrals.depth, integrals.stops
        given = (*ray_arguments(rays, sh), *options, *self.arguments, density, sh, *seen, *upstream)

        def work(part: int, first: int, last: int) -> None:
            march_kernels.backward(first, last, *[*given, *into.slot(part)])

        over_ranges(n, work, into.slots)
        into.gather()

    def importance(
        self, density: np.ndarray, rays: Rays, into: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """How much rays see of each voxel.

        Parameters
        ----------
        density : ndarray ``(rows,)``
        rays : Rays
        into : pair of ndarray ``(rows,)`` float64, optional
            What an earlier call gave, to go on with; changed in place.

        Returns
        -------
        most : ndarray ``(rows,)`` float64
            Largest rendering weight T (1 - exp(-s l)) among the samples that a voxel is a corner of: what Plenoxels
            prunes by (section 3.3).
        total : ndarray ``(rows,)`` float64
            Sum over samples of rendering weight times the voxel's trilinear weight: the importance by which
            VQRF prunes (Li et al., CVPR 2023, section 3).
        """
        from neurcomp_core.radiance.rendering import march_kernels

        rows = len(density)
        self._check_rows(rows)
        most, total = into or (np.zeros(rows), np.zeros(rows))
        if {most.shape, total.shape} != {(rows,)}:
            raise InputError(f"importance so far: expected ({rows},) each, got {most.shape} and {total.shape}")
        if not rows:
            return most, total
        density = np.ascontiguousarray(density)
        parts = thread_count()
        slots = [(most, total)] + [(np.zeros(rows), np.zeros(rows)) for _ in range(parts - 1)]
        bounds = rays.origins, rays.directions, rays.near, rays.far, ray_fractions(None, len(rays))
        given = (*bounds, float(self.options.step), float(self.options.stop), *self.arguments, density)

        def work(part: int, first: int, last: int) -> None:
            march_kernels.importance(first, last, *[*given, *slots[part]])

        over_ranges(len(rays), work, parts)
        for other, sums in slots[1:]:
            np.maximum(most, other, out=most)
            total += sums
        return most, total


def ray_arguments(rays: Rays, sh: np.ndarray) -> tuple:
    """What kernels take of rays: origins, directions, basis functions, near, far."""
    degree = spherical_harmonics.degree_of(sh.shape[1] // 3)
    assert rays.views is not None
    return rays.origins, rays.directions, spherical_harmonics.basis(rays.views, degree), rays.near, rays.far


def ray_fractions(fractions: np.ndarray | None, count: int) -> np.ndarray:
    """Checked fractions ``(count,)`` of steps at which rays are sampled; midpoints for None."""
    if fractions is None:
        return np.full(count, 0.5)
    fractions = np.ascontiguousarray(fractions, np.float64)
    if fractions.shape != (count,) or not ((fractions >= 0) & (fractions <= 1)).all():
        raise InputError(f"fractions: expected {count} numbers from 0 to 1")
    return fractions
