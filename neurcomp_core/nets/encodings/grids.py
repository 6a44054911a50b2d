"""Multi-resolution grids, dense or hashed: the layout and the kernels of the codec ``hashgrid``.

Müller, Evans, Schied, Keller: "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", ACM TOG 41(4),
2022, section 3; see `nets.grid` for the conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.coding.weights import Group
from neurcomp_core.nets.encodings.base import Encoding
from neurcomp_core.nets.grid import GridLayout

#: log2 of more entries than any level of a file has.
_NO_HASH = 40


class HashTables(Encoding):
    """`levels` grids of `features` values, the coarsest of `resolution` vertices; large ones are hashed."""

    number: ClassVar[int] = 5
    name: ClassVar[str] = "hash"
    uses: ClassVar[tuple[str, ...]] = ("levels", "features", "resolution", "growth", "log2_table")

    @cached_property
    def layout(self) -> GridLayout:
        """As the kernels know it."""
        s = self.sizes
        return GridLayout(self.dims, s.levels, s.features, self._log2_table, s.resolution, s.growth)

    @property
    def _log2_table(self) -> int:
        return self.sizes.log2_table

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.sizes.levels * self.sizes.features

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """A table per level; see `Encoding.shapes`."""
        return [(int(entries), self.sizes.features) for entries in self.layout.sizes]

    def groups(self) -> list[Group]:
        """See `Encoding.groups`; entries that no sample reads are not coded."""
        from neurcomp_core.nets.model import Network

        return Network(self.layout, 1, 1, 1, self.lattice).groups[: self.sizes.levels]

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Uniform in ±1e-4, as the paper's section 4 has it."""
        return [rng.uniform(-1e-4, 1e-4, shape).astype(np.float32) for shape in self.shapes]

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Level by level; see `Encoding.features`."""
        table = xp.concatenate(list(tables))
        if xp is not np:
            from neurcomp_core.nets import backends, network

            if points.dtype == xp.float32:
                return backends.chosen("auto", points.device).encode(points, table, self.layout)
            # The kernels are of float32; anything else is the reference that they are tested against.
            return network.encode_reference(points, table, self.layout)
        from neurcomp_core.nets import kernels

        out = np.empty((self.width, len(points)), np.float32)
        kernels.encode(points, table, *self.layout.kernel_args, out)
        return out


class DenseGrid(HashTables):
    """The same with a table entry for every vertex."""

    number: ClassVar[int] = 4
    name: ClassVar[str] = "dense"
    uses: ClassVar[tuple[str, ...]] = ("levels", "features", "resolution", "growth")

    @property
    def _log2_table(self) -> int:
        return _NO_HASH
