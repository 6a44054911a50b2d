"""Sums of gradients over rays, one slot per thread."""

from __future__ import annotations

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.rendering.ranges import over_ranges, thread_count


class Gradients:
    """Sums over rays with respect to the rows of a grid, to be used again step after step.

    Each thread has a slot of its own; `gather` adds them in order and looks only at rows that were met, as an
    optimiser may (`touched`). Memory: threads times the grid's.

    Attributes
    ----------
    density : ndarray ``(rows,)``
    sh : ndarray ``(rows, 3 functions)``
    touched : ndarray ``(rows,)`` bool
        Rows that a sample with density has met since `clear`; the others' gradients are zero.
    """

    def __init__(self, density: np.ndarray, sh: np.ndarray, threads: int | None = None) -> None:
        self.slots = threads or thread_count()
        rows = len(density)
        self._density = np.zeros((self.slots, rows), density.dtype)
        self._sh = np.zeros((self.slots, rows, int(np.prod(sh.shape[1:]))), sh.dtype)
        self._touched = np.zeros((self.slots, rows), bool)

    @property
    def density(self) -> np.ndarray:
        return self._density[0]

    @property
    def sh(self) -> np.ndarray:
        return self._sh[0]

    @property
    def touched(self) -> np.ndarray:
        return self._touched[0]

    def slot(self, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._density[part], self._sh[part], self._touched[part]

    def check(self, density: np.ndarray, sh: np.ndarray) -> None:
        """InputError unless these are gradients of a table like ``(rows,)`` and ``(rows, 3 functions)``."""
        if (self.density.shape, self.density.dtype) != (density.shape, density.dtype) or self.sh.shape != sh.shape:
            raise InputError(
                f"gradients of {self.density.shape} and {self.sh.shape} {self.density.dtype}, but the grid has "
                f"{density.shape} and {sh.shape} {density.dtype}; make new ones when rows come or go"
            )

    def gather(self) -> None:
        """Add all threads' slots to the first and clear them."""
        if self.slots > 1:
            from neurcomp_core.radiance.rendering import gradient_kernels

            given = self._density, self._sh, self._touched
            over_ranges(len(self.density), lambda _, a, b: gradient_kernels.gather(a, b, *given), self.slots)

    def clear(self) -> None:
        """Back to zero."""
        from neurcomp_core.radiance.rendering import gradient_kernels

        given = self.slot(0)
        over_ranges(len(self.density), lambda _, a, b: gradient_kernels.clear(a, b, *given), self.slots)
