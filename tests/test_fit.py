"""Training: fair sampling, masks without influence, networks that grow with a search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.field import Field
from neurcomp_core.fit.hashgrid import shape_for
from neurcomp_core.fit.sampling import BlockSampler
from neurcomp_core.nets.grid import Lattice
from neurcomp_core.pipeline import compress
from neurcomp_core.target import Psnr, Ratio

SETTINGS = HashGrid(steps=100, batch=4096)
CONTEXT = Context(device="cpu", threads=2)


def smooth(shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    waves = np.sin(x / 2) * np.cos(y) + z * z / 20 + 3 * np.exp(-(x * x + y * y + z * z) / 30)
    return waves.astype(np.float32)


@pytest.mark.parametrize("goal", [26.0, 40.0])
def test_a_search_grows_its_network_until_the_target_is_met(goal: float) -> None:
    # Odd sizes: levels turn dense while growing.
    quality = compress(Field(smooth((13, 15, 17))), Psnr(goal), SETTINGS, CONTEXT).reports[0].quality
    assert goal <= quality.psnr < goal + 3


def test_a_grown_network_keeps_resolutions_and_width() -> None:
    field = Field(smooth((20, 30, 40)))
    small = shape_for(field, 700, SETTINGS)
    for budget in (100, 1400, 5600, 20000):
        grown = shape_for(field, budget, SETTINGS, small)
        assert (grown.base, grown.growth, grown.width) == (small.base, small.growth, small.width)
        assert grown.levels >= small.levels
    assert grown.log2_table > small.log2_table


def test_two_levels_are_never_further_apart_than_files_may_say() -> None:
    settings = HashGrid(levels=2, steps=10, batch=512)
    field = Field(np.random.default_rng(0).random((40, 40, 40), np.float32))
    assert shape_for(field, 20_000, settings).growth == 8
    assert compress(field, Ratio(50), settings, CONTEXT).data


@pytest.mark.parametrize("edge", [1, 2, 3])
def test_every_sample_is_as_likely(edge: int) -> None:
    values = np.arange(3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9)
    generator = torch.Generator().manual_seed(0)
    lattice = Lattice((3, 8, 9))
    sampler = BlockSampler(values, lattice, None, 0, 1, edge, 60_000, generator, torch.device("cpu"))
    counts = np.zeros(values.size)
    # Many small batches, as a batch has one phase.
    for _ in range(40):
        points, targets, weights = sampler.batch()
        assert weights is None
        index = targets[0].long()
        np.testing.assert_allclose(points[:, 0], (index % 9 + 0.5) / 9, rtol=1e-6)
        counts += np.bincount(index, minlength=values.size)
    # Samples at the ends may come up to twice as often, where a cube had to move inside; never less.
    assert counts.min() > 0.5 * counts.mean()
    assert counts.max() < 4 * counts.mean()


def test_masked_samples_have_no_influence() -> None:
    values = smooth((10, 11, 12))
    mask = values > np.quantile(values, 0.8)
    coded = []
    for garbage in (1e6, -7.0):
        filled = np.where(mask, np.float32(garbage), values)
        result = compress(Field(filled, mask=mask), Ratio(6), SETTINGS, CONTEXT)
        coded.append(result.reports[0].quality)
    assert coded[0] == coded[1]
