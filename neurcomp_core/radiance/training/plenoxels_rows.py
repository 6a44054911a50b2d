"""Rows that are trained on the CPU: values, RMSProp's means, gradients, total variation."""

from __future__ import annotations

import numpy as np

from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.training.regularisers import add_gradient, next_rows, scales_of, stretch


class Rows:
    """A table of densities and colour coefficients in training; arrays are changed in place.

    Parameters
    ----------
    density : ndarray ``(rows,)`` float32
    sh : ndarray ``(rows, 3, functions)`` float32
    links : ndarray
        Row per sample, which says what neighbours what; see `regularisers.next_rows`.
    wrap : tuple of bool
    squares : tuple of ndarray, optional
        RMSProp's means so far, of the shapes of `density` and `sh`.
    """

    def __init__(
        self,
        density: np.ndarray,
        sh: np.ndarray,
        links: np.ndarray,
        wrap: tuple[bool, ...] = (False, False, False),
        squares: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.density, self.sh = density, sh
        self.squares = squares or (np.zeros_like(density), np.zeros_like(sh))
        self.gradients = Gradients(density, sh)
        self._ahead, self._scales = next_rows(links, wrap), scales_of(links.shape)

    def smooth(self, weights: tuple[float, float], share: float, seed: tuple[int, ...]) -> None:
        """Add the gradient of total variation over a random stretch of rows."""
        rows = stretch(len(self._ahead), share, seed)
        add_gradient(self.gradients, self.density, self.sh, self._ahead, self._scales, weights, rows)

    def move(self, rates: tuple[float, float], decay: float) -> None:
        """One step of RMSProp on the rows with a gradient, which is cleared."""
        from neurcomp_core.radiance.training import optimiser_kernels as kernels

        into = self.gradients
        count = len(self.density)
        fine = self.sh.reshape(count, -1), self.squares[1].reshape(count, -1), into.sh
        plain = self.density[:, None], self.squares[0][:, None], into.density[:, None]

        def work(part: int, first: int, last: int) -> None:
            kernels.rmsprop(first, last, *plain, into.touched, rates[0], decay)
            kernels.rmsprop(first, last, *fine, into.touched, rates[1], decay)
            into.touched[first:last] = False

        over_ranges(count, work, into.slots)
