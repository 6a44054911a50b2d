"""What a file says of a wavelet stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError
from neurcomp_core.wavelet import stream
from neurcomp_core.wavelet.importance import EDGES
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.scaling import Scaling
from neurcomp_core.wavelet.tiles import Tiling


@dataclass(frozen=True)
class WaveletRecord:
    """Parameters of a stream. The defaults are part of the format.

    Attributes
    ----------
    step : float
        Quantisation step; of samples where there is no transform.
    mean : float
        Subtracted before the transform.
    depth : int
        Levels at most; 0 for no transform.
    edge : int
        Of the tiles, see `Tiling`; 0 for none.
    lanes : int
        Slabs that large subbands are cut into.
    double : bool
        Whether the transform is in float64.
    quantum : float
        Corrections of samples are multiples of this; 0 for none.
    exponent : int
        See `Scaling`.
    key : int
        Number of the tile whose decoder's models the others begin with.
    lead, ahead : int
        See `Layout`.
    blocks : int
        Edge of the blocks that have steps of their own, see `importance`; 0 for one step. The map is the last section.
    """

    step: float = 0.0
    mean: float = 0.0
    depth: int = 16
    edge: int = 0
    lanes: int = 1
    double: bool = False
    quantum: float = 0.0
    exponent: int = 0
    key: int = 0
    lead: int = 0
    ahead: int = 0
    blocks: int = 0

    def __post_init__(self) -> None:
        ok = 0 < self.step < math.inf and math.isfinite(self.mean) and 0 <= self.depth <= 32
        ok = ok and 0 <= self.edge < 1 << 31 and (self.edge == 0 or self.edge >= 16) and self.edge % 8 == 0
        ok = ok and 1 <= self.lanes <= 64 and 0 <= self.quantum < math.inf and abs(self.exponent) < 1 << 11
        # Coefficients that go ahead along an axis lie elsewhere than their place says.
        ok = ok and (not self.blocks or (self.blocks in EDGES and self.depth > 0 and not self.ahead))
        if not ok or self.key < 0 or not 0 <= self.ahead <= 32 or not 0 <= self.lead <= 2:
            raise FormatError(f"wavelet: impossible parameters {self}; the file is damaged")

    @property
    def dtype(self) -> type:
        return np.float64 if self.double else np.float32

    def tiling(self, spec: ArraySpec) -> Tiling:
        return Tiling(spec.shape[:3], self.depth, self.edge, self.lanes, self.lead, self.ahead)  # type: ignore[arg-type]

    def scaling(self, dtype: np.dtype) -> Scaling:
        return Scaling(dtype, self.dtype, self.mean, self.exponent)


@dataclass(frozen=True)
class Index:
    """Where the sections of an array's parts are: the root's, then each tile's, its corrections last."""

    record: WaveletRecord
    tiling: Tiling

    @property
    def root(self) -> range:
        """Sections of the root, without corrections."""
        layout = self.tiling.root
        return range(0 if layout is None else len(stream.groups(layout)))

    def tiles(self, sections: int) -> list[range]:
        """Sections of each tile, corrections included.

        Raises
        ------
        FormatError
            If there are not as many sections as that.
        """
        grid = math.prod(self.tiling.grid)
        sections -= bool(self.record.blocks)
        bound = bool(self.record.quantum)
        found: list[range] = []
        # Before a list of tiles is made: a damaged shape may have any number.
        if grid <= sections:
            at = len(self.root)
            for region in self.tiling.regions:
                count = len(stream.groups(self.tiling.layout(region))) + bound
                found.append(range(at, at + count))
                at += count
        expected = found[-1].stop if found else len(self.root) + bound
        if grid > sections or expected != sections:
            raise FormatError(f"wavelet: {sections} sections, {max(expected, grid)} expected")
        return found


def corrections_layout(record: WaveletRecord, shape: tuple[int, ...]) -> Layout:
    """Layout of the corrections of a box of samples."""
    return Layout(shape[:3], 0, 1 if record.edge else record.lanes)  # type: ignore[arg-type]
