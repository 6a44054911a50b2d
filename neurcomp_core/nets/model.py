"""A quantised hash-grid network: its integers, its stream, and its values on a lattice. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core.coding.weights import LIMIT, Group, decode_groups, encode_groups
from neurcomp_core.field import Region
from neurcomp_core.nets import kernels
from neurcomp_core.nets.grid import GridLayout, Lattice

# 2**(k/4); written out, since a power function may round differently elsewhere.
_ROOTS = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)
#: A level with more vertices than this many times its table is taken to use every entry.
_CERTAIN = 8
_ROWS = 4096
#: Samples per axis that one call of the kernel decodes.
_LONGEST = 1 << 14


@dataclass(frozen=True)
class Network:
    """Shape of a hash-grid network and of the lattice it stands for.

    Attributes
    ----------
    layout : GridLayout
    width, hidden, outputs : int
        Neurons per hidden layer, hidden layers (at least 1), components of the field.
    lattice : Lattice
    """

    layout: GridLayout
    width: int
    hidden: int
    outputs: int
    lattice: Lattice

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of table, first, hidden and last weights, as `network.initial_parameters` makes them."""
        return [
            (self.layout.entries, self.layout.features),
            (self.width, self.layout.width),
            (self.hidden - 1, self.width, self.width),
            (self.outputs, self.width),
        ]

    @property
    def parameters(self) -> int:
        """Number of parameters, reachable or not."""
        return sum(math.prod(s) for s in self.shapes)

    @cached_property
    def groups(self) -> list[Group]:
        """What shares a quantiser step and a model: each level, then each matrix kind that is not empty."""
        layout = self.layout
        groups = []
        for level in range(layout.levels):
            r = int(layout.resolutions[level])
            spatial = (1, r if layout.dims > 1 else 0, r * r if layout.dims > 2 else 0)
            strides = spatial if layout.dense[level] else (0, 0, 0)
            groups.append(Group(int(layout.sizes[level]), layout.features, strides, self._reachable(level)))
        # A matrix is coded one weight a row: its columns have nothing in common.
        return groups + [Group(math.prod(s), 1) for s in self.shapes[1:] if math.prod(s)]

    def _reachable(self, level: int) -> np.ndarray | None:
        layout = self.layout
        lower = self.lattice.lower_vertices(layout, level)
        corners = [np.unique(np.concatenate([a, a + 1])) if d < layout.dims else a for d, a in enumerate(lower)]
        vertices = math.prod(len(c) for c in corners)
        if not layout.dense[level] and vertices > _CERTAIN * int(layout.sizes[level]):
            return None
        marks = np.zeros(int(layout.sizes[level]), bool)
        x, y, z = corners
        _, resolutions, sizes, _, dense, *_ = layout.kernel_args
        kernels.mark_reachable(x, y, z, resolutions[level], sizes[level], dense[level], marks)
        return marks

    def split(self, parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Parameters in the shapes of `shapes` as one ``(rows, features)`` view per group."""
        layout = self.layout
        levels = [parameters[0][f : f + s] for f, s in zip(layout.firsts, layout.sizes, strict=True)]
        return levels + [p.reshape(-1, 1) for p in parameters[1:] if p.size]

    def join(self, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Inverse of `split`."""
        layout, shapes = self.layout, self.shapes
        matrices = iter(groups[layout.levels :])
        table = np.concatenate(groups[: layout.levels])
        return [table] + [next(matrices).reshape(s) if math.prod(s) else np.empty(s, np.float32) for s in shapes[1:]]

    def pack(self, parameters: Sequence[np.ndarray], steps: np.ndarray) -> bytes:
        """Stream of the parameters, each rounded to a multiple of its group's step."""
        groups = zip(self.split(parameters), steps, strict=True)
        # A budget may allow finer steps than the coder; the values at its end are then merely less exact.
        symbols = [np.rint(p / step).clip(1 - LIMIT, LIMIT - 1).astype(np.int64) for p, step in groups]
        return encode_groups(symbols, self.groups)

    def unpack(self, data: bytes, steps: np.ndarray) -> list[np.ndarray]:
        """Float32 parameters of a stream; raises FormatError if it is not one of this network."""
        symbols = decode_groups(data, self.groups)
        return self.join([(q * step).astype(np.float32) for q, step in zip(symbols, steps, strict=True)])

    def evaluate(
        self, parameters: Sequence[np.ndarray], region: Region, step: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Outputs ``(outputs, z, y, x)`` at every `step`-th sample of a region of the lattice; float32, put into `out`
        if there is one.
        """
        if max(r.stop - r.start for r in region) > _LONGEST * step:
            return self._evaluate_parts(parameters, region, step, out)
        axes = self.lattice.axes
        counts = [len(range(r.start, r.stop, step)) for r in region]
        # Network axes 0, 1, 2 are the lattice's axes of more than one sample, fastest first.
        order = [counts[a] for a in axes] + [1] * (3 - len(axes))
        shape = (self.outputs, *order[::-1])
        out = np.empty(shape, np.float32) if out is None else out.reshape(shape)
        cells = self.lattice.axis_cells(self.layout, region, step)
        rows = max(1, min(order[1], _ROWS // order[0]))
        _, resolutions, sizes, firsts, dense, *_ = self.layout.kernel_args
        (lx, wx), (ly, wy), (lz, wz) = cells
        table, first, inner, last = (np.ascontiguousarray(p) for p in parameters)
        kernels.decode_lattice(
            table, resolutions, sizes, firsts, dense, lx, wx, ly, wy, lz, wz, first, inner, last, rows, out
        )
        return out.reshape(self.outputs, *counts)

    def _evaluate_parts(
        self, parameters: Sequence[np.ndarray], region: Region, step: int, out: np.ndarray | None
    ) -> np.ndarray:
        """`evaluate` where an axis is long: the kernel's tables per axis would outgrow its result."""
        if out is None:
            out = np.empty((self.outputs, *(len(range(r.start, r.stop, step)) for r in region)), np.float32)
        starts = [range(0, n, _LONGEST) for n in out.shape[1:]]
        for corner in itertools.product(*starts):
            part = tuple(
                slice(r.start + c * step, min(r.start + (c + _LONGEST) * step, r.stop))
                for r, c in zip(region, corner, strict=True)
            )
            box = tuple(slice(c, c + _LONGEST) for c in corner)
            out[(slice(None), *box)] = self.evaluate(parameters, part, step)  # type: ignore[arg-type]
        return out


def steps_of(step: float, codes: bytes) -> np.ndarray:
    """Quantiser step per group: ``step / 2**(code / 4)``, float64, the same on every machine."""
    return np.array([step / math.ldexp(_ROOTS[c & 3], c >> 2) for c in codes])


def step_codes(relative: np.ndarray) -> bytes:
    """Codes of `steps_of` for steps proportional to `relative`, the largest of which gets code 0."""
    return bytes(np.clip(np.rint(4 * np.log2(relative.max() / relative)), 0, 255).astype(np.uint8))
