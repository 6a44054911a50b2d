"""Triton kernel of the optimiser: Adam, the pressure on the code length, and rounding, in one pass over the parameters.

Tables have millions of entries and every step touches them all, so bytes are what counts: 16 read and 18 written for
each parameter (float32 value, two moments and gradient; the float16 copy that the network is evaluated with), where a
pass per operation moves about 130.
"""
# Triton's language is not typed.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

_TILE = 1024


@triton.jit
def _update(
    values, average, square, gradient, working, origin, starts, ends, groups, steps, pressures, sizes, found, rates,
    ROUND: tl.constexpr, ORIGIN: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """One tile of one group of parameters; see `Parameters.update`."""
    block = tl.program_id(0)
    at = tl.load(starts + block) + tl.arange(0, TILE)
    inside = at < tl.load(ends + block)
    group = tl.load(groups + block)
    p = tl.load(values + at, mask=inside, other=0.0)
    g = tl.load(gradient + at, mask=inside, other=0.0)
    if ROUND:
        step = tl.load(steps + group)
        u = p / step
        spread = tl.maximum(tl.load(sizes + group) / step, 0.05)
        # The derivative of |u|, softened below half a step where rounding hides it anyway.
        g += u / (tl.abs(u) + 0.3) * (tl.load(pressures + group) / spread)
    m = BETA1 * tl.load(average + at, mask=inside, other=0.0) + (1.0 - BETA1) * g
    v = BETA2 * tl.load(square + at, mask=inside, other=0.0) + (1.0 - BETA2) * g * g
    p -= tl.load(rates) * m / (tl.sqrt(v) * tl.load(rates + 1) + EPSILON)
    tl.store(values + at, p, mask=inside)
    tl.store(average + at, m, mask=inside)
    tl.store(square + at, v, mask=inside)
    tl.store(gradient + at, tl.zeros((TILE,), tl.float32), mask=inside)
    tl.atomic_add(found + group, tl.sum(tl.where(inside, tl.abs(p), 0.0), axis=0), sem="relaxed")
    if ROUND:
        step = tl.load(steps + group)
        p = tl.floor(p / step + 0.5) * step
    if ORIGIN:
        p += tl.load(origin + at, mask=inside, other=0.0)
    tl.store(working + at, p, mask=inside)


@dataclass(frozen=True)
class Blocks:
    """Tiles of one array of parameters, none of which crosses groups.

    Attributes
    ----------
    starts, ends : Tensor
        ``(tiles,)`` int64: first element, and the first beyond the group.
    groups : Tensor
        ``(tiles,)`` int32.
    """

    starts: torch.Tensor
    ends: torch.Tensor
    groups: torch.Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], first: int, device: torch.device) -> Blocks:
        """Of consecutive groups of `sizes` elements, the first of which has number `first`."""
        starts, ends, groups, begin = [], [], [], 0
        for group, size in enumerate(sizes, first):
            tiles = range(begin, begin + size, _TILE)
            starts += tiles
            ends += [begin + size] * len(tiles)
            groups += [group] * len(tiles)
            begin += size
        whole = (torch.tensor(a, dtype=torch.int64, device=device) for a in (starts, ends))
        return cls(*whole, torch.tensor(groups, dtype=torch.int32, device=device))


@dataclass(frozen=True)
class Groups:
    """Figures of all groups, ``(groups,)`` float32 each.

    Attributes
    ----------
    steps : Tensor
        Of quantisers.
    pressures : Tensor
        Factor of the code length's gradient, before it is divided by the mean of ``|p| / step``, at least 0.05.
    counts, sizes, found : Tensor
        Parameters; the mean of ``|p|`` before an update, which `settle` takes from its sum after the one before.
    """

    steps: torch.Tensor
    pressures: torch.Tensor
    counts: torch.Tensor
    sizes: torch.Tensor
    found: torch.Tensor

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> Groups:
        ones = torch.ones(len(counts), device=device)
        many = torch.tensor(counts, dtype=torch.float32, device=device)
        return cls(ones, ones * 0, many, ones * 0, ones * 0)

    def settle(self) -> None:
        """After all arrays of a step were updated."""
        torch.div(self.found, self.counts, out=self.sizes)
        self.found.zero_()


@dataclass(frozen=True)
class Parameters:
    """One array in training, each field of its shape.

    Attributes
    ----------
    values, average, square, gradient : Tensor
        Float32, contiguous: parameters, Adam's moments, and the gradient, which an update sets to zero.
    working : Tensor
        What the network is evaluated with; float32 or float16.
    origin : Tensor, optional
        What is added to parameters for that.
    blocks : Blocks
    """

    values: torch.Tensor
    average: torch.Tensor
    square: torch.Tensor
    gradient: torch.Tensor
    working: torch.Tensor
    origin: torch.Tensor | None
    blocks: Blocks

    def update(
        self, groups: Groups, rates: torch.Tensor, rounded: bool, betas: tuple[float, float], eps: float
    ) -> None:
        """Take a step of Adam (Kingma & Ba, ICLR 2015, algorithm 1).

        Parameters
        ----------
        groups : Groups
            `found` is added to.
        rates : Tensor
            ``(2,)`` float32: learning rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t).
        rounded : bool
            Whether under quantisers: with the gradient of the code length, and `working` rounded.
        betas : tuple of float
        eps : float
        """
        if not self.values.numel():
            return
        b, g = self.blocks, groups
        origin = self.values if self.origin is None else self.origin
        _update[(len(b.starts),)](
            self.values, self.average, self.square, self.gradient, self.working, origin, b.starts, b.ends, b.groups,
            g.steps, g.pressures, g.sizes, g.found, rates, rounded, self.origin is not None, *betas, eps, _TILE,
            num_warps=4,
        )  # fmt: skip
