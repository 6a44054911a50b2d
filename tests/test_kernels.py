"""The compiled kernels against plain torch and against numbers of their own making."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurcomp_core import threads
from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid, HashGridRecord, network_of
from neurcomp_core.container import ArraySpec
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.fit.trainer import Trainer
from neurcomp_core.nets import kernels, model
from neurcomp_core.nets import network as nn
from neurcomp_core.nets.grid import GridLayout, Lattice
from neurcomp_core.nets.model import Network, step_codes, steps_of

#: dims, levels, features, log2_table, base, growth: dense, hashed, both; sizes that are and are not multiples of 8
LAYOUTS = [
    (1, 5, 2, 12, 8, 1.5), (1, 4, 1, 4, 8, 2.0), (2, 4, 4, 14, 3, 1.7), (2, 5, 2, 6, 4, 2.0),
    (3, 3, 2, 14, 2, 2.0), (3, 4, 1, 5, 4, 1.5), (3, 5, 4, 9, 3, 1.6), (3, 1, 2, 19, 8, 1.5),
]  # fmt: skip
every_layout = pytest.mark.parametrize("layout", [GridLayout(*a) for a in LAYOUTS], ids=str)


def points_for(layout: GridLayout, count: int = 1000, seed: int = 1) -> torch.Tensor:
    """Points of the unit cube, its corners among them; unused axes 0."""
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    points[:8] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    points[:, layout.dims :] = 0
    return points


def random(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------------ encoding


@every_layout
def test_encoding_and_its_gradient(layout: GridLayout) -> None:
    points, table = points_for(layout), random(layout.entries, layout.features)
    upstream = random(layout.width, len(points), seed=3)
    results = []
    for encode in (nn.encode, nn.encode_reference):
        leaf = table.clone().requires_grad_()
        out = encode(points, leaf, layout)
        (gradient,) = torch.autograd.grad((out * upstream).sum(), leaf)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=2e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


@every_layout
def test_encoding_touches_nothing_outside_the_table(layout: GridLayout) -> None:
    # Guard rows around the table: NaN times a weight of zero would show, and so would a gradient written there.
    guard = 4096
    points = points_for(layout)
    padded = torch.full((layout.entries + 2 * guard, layout.features), float("nan"))
    table = padded[guard:-guard]
    table.copy_(random(*table.shape))
    out = torch.empty(layout.width, len(points))
    kernels.encode(points.numpy(), table.numpy(), *layout.kernel_args, out.numpy())
    assert out.isfinite().all()
    kernels.encode_backward(points.numpy(), torch.ones_like(out).numpy(), *layout.kernel_args, table.numpy())
    assert padded[:guard].isnan().all()
    assert padded[-guard:].isnan().all()


def test_levels_own_their_entries() -> None:
    # A gradient that arrives at one level must not move another's entries.
    layout = GridLayout(2, 3, 2, 14, 4, 2.0)
    for level in range(3):
        upstream = torch.zeros(layout.width, 500)
        upstream[2 * level : 2 * level + 2] = 1
        gradient = torch.zeros(layout.entries, 2)
        points = points_for(layout, 500)
        kernels.encode_backward(points.numpy(), upstream.numpy(), *layout.kernel_args, gradient.numpy())
        touched = gradient.abs().sum(1).nonzero().flatten()
        assert layout.firsts[level] <= touched.min()
        assert touched.max() < layout.firsts[level] + layout.sizes[level]
        assert float(gradient.sum()) == pytest.approx(1000, rel=1e-4)


# ---------------------------------------------------------------------------------------------------------- perceptron


def weights_of(inputs: int, width: int, hidden: int, outputs: int) -> tuple[torch.Tensor, ...]:
    return (
        random(width, inputs, seed=4) / math.sqrt(inputs),
        random(hidden - 1, width, width, seed=5) / math.sqrt(width),
        random(outputs, width, seed=6) / math.sqrt(width),
    )


@pytest.mark.parametrize("count", [1, 128, 1000])
@pytest.mark.parametrize(
    ("inputs", "width", "hidden", "outputs"), [(3, 8, 1, 1), (16, 16, 2, 3), (7, 33, 3, 2), (8, 1, 2, 1), (1, 5, 1, 6)]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_perceptron_and_its_gradients(
    inputs: int, width: int, hidden: int, outputs: int, count: int, workers: int
) -> None:
    x, upstream = random(inputs, count), random(outputs, count, seed=7)
    weights = weights_of(inputs, width, hidden, outputs)
    results = []
    with threads.limit(workers):
        for mlp in (nn.mlp, nn.mlp_reference):
            leaves = [t.clone().requires_grad_() for t in (x, *weights)]
            out = mlp(leaves[0], tuple(leaves[1:]))
            gradients = torch.autograd.grad((out * upstream).sum(), [t for t in leaves if t.numel()])
            results.append((out.detach(), *gradients))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_gradients_agree_with_finite_differences() -> None:
    layout = GridLayout(2, 2, 2, 6, 2, 2.0)
    points = points_for(layout, 40)
    leaves = [random(layout.entries, 2), *weights_of(layout.width, 6, 2, 2)]
    upstream = random(2, 40, seed=8)

    def loss(parameters: list[torch.Tensor]) -> torch.Tensor:
        return (nn.mlp(nn.encode(points, parameters[0], layout), tuple(parameters[1:])) * upstream).sum()

    tracked = [t.clone().requires_grad_() for t in leaves]
    gradients = torch.autograd.grad(loss(tracked), tracked)
    for number, gradient in enumerate(gradients):
        direction = random(*leaves[number].shape, seed=9)
        ends = []
        for sign in (1, -1):
            moved = [t.clone() for t in leaves]
            moved[number] += sign * 1e-3 * direction
            ends.append(float(loss(moved)))
        # A few units may cross their kink on the way.
        assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(float((gradient * direction).sum()), rel=0.03, abs=0.05)


STEP = """
import hashlib, torch
from neurcomp_core import threads
from neurcomp_core.nets import network as nn
generator = torch.Generator().manual_seed(0)
x, *weights = (torch.rand(*shape, generator=generator).requires_grad_() for shape in
               ((8, 1000), (16, 8), (1, 16, 16), (1, 16)))
with threads.limit(2):
    output = nn.mlp(x, tuple(weights))
    gradients = torch.autograd.grad(((output - 1) ** 2).mean(), (x, *weights))
print([hashlib.sha256(t.detach().numpy().tobytes()).hexdigest()[:16] for t in (output, *gradients)])
"""


def test_kernels_compute_the_same_bits_compiled_now_or_before(tmp_path: Path) -> None:
    # Same seed, same bytes: also in the first process, which compiles.
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    cold, warm = (subprocess.check_output([sys.executable, "-c", STEP], env=env) for _ in range(2))
    assert any(tmp_path.rglob("*.nbi"))
    assert cold == warm


# ------------------------------------------------------------------------------------------------------------- lattice

SHAPES = [(9, 10, 11), (1, 14, 15), (14, 1, 15), (14, 15, 1), (1, 1, 60), (60, 1, 1), (2, 40, 3), (1, 1, 1), (33, 2, 1)]


def network_for(shape: tuple[int, int, int], log2_table: int = 8, **more: int) -> Network:
    lattice = Lattice(shape)
    layout = GridLayout(lattice.dims, 4, more.pop("features", 2), log2_table, more.pop("base", 4), 1.7)
    return Network(layout, more.get("width", 16), more.get("hidden", 2), more.get("outputs", 2), lattice)


def parameters_of(network: Network, seed: int = 1) -> list[np.ndarray]:
    table, *matrices = (random(*s, seed=seed + i).numpy() for i, s in enumerate(network.shapes))
    return [table] + [m / math.sqrt(m.shape[-1]) for m in matrices]


def pointwise(network: Network, parameters: list[np.ndarray], region: Region, step: int) -> np.ndarray:
    """Lattice values through the plain-torch network in float64, ``(outputs, z, y, x)``."""
    ranges = [np.arange(r.start, r.stop, step) for r in region]
    index = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    points = torch.zeros(len(index), 3, dtype=torch.float64)
    for column, axis in enumerate(network.lattice.axes):
        points[:, column] = torch.from_numpy(network.lattice.coordinates(axis, index[:, axis]))
    table, *matrices = (torch.from_numpy(p).double() for p in parameters)
    out = nn.mlp_reference(nn.encode_reference(points, table, network.layout), tuple(matrices))
    return out.numpy().reshape(network.outputs, *(len(r) for r in ranges))


@pytest.mark.parametrize("log2_table", [4, 6, 12])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lattice_is_the_network_at_every_sample(shape: tuple[int, int, int], log2_table: int) -> None:
    network = network_for(shape, log2_table)
    parameters = parameters_of(network)
    whole = full_region(shape)
    got = network.evaluate(parameters, whole, 1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, pointwise(network, parameters, whole, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "more",
    [
        {"features": 1},
        {"features": 4, "outputs": 5},
        {"hidden": 1},
        {"hidden": 3, "width": 33},
        {"width": 8, "base": 8},
    ],
    ids=str,
)
def test_lattice_of_other_networks(more: dict[str, int]) -> None:
    for shape in ((9, 10, 11), (1, 1, 64)):
        network = network_for(shape, **more)
        parameters = parameters_of(network)
        expected = pointwise(network, parameters, full_region(shape), 1)
        np.testing.assert_allclose(network.evaluate(parameters, full_region(shape), 1), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("step", [1, 2, 3, 8])
@pytest.mark.parametrize("longest", [1 << 14, 4])
def test_regions_and_steps(step: int, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_LONGEST", longest)  # long axes are decoded in parts
    shape = (9, 14, 21)
    network = network_for(shape)
    parameters = parameters_of(network)
    for region in ((slice(2, 9), slice(3, 4), slice(0, 21)), (slice(8, 9), slice(0, 14), slice(20, 21))):
        expected = pointwise(network, parameters, region, step)
        np.testing.assert_allclose(network.evaluate(parameters, region, step), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 1, 64), (64, 1, 1), (1, 64, 1), (1, 16, 64), (16, 64, 1)], ids=str)
def test_lattice_reads_nothing_outside_the_table(shape: tuple[int, int, int]) -> None:
    network = network_for(shape, 12, base=8)
    parameters = parameters_of(network)
    padded = np.full((len(parameters[0]) + 8192, 2), np.nan, np.float32)
    padded[4096:-4096] = parameters[0]
    inside = padded[4096:-4096]
    assert inside.flags.c_contiguous
    assert np.isfinite(network.evaluate([inside, *parameters[1:]], full_region(shape), 1)).all()


def test_threads_do_not_change_a_bit() -> None:
    network = network_for((17, 18, 19))
    parameters = parameters_of(network)
    outputs = []
    for count in (1, 2):
        with threads.limit(count):
            outputs.append(network.evaluate(parameters, full_region((17, 18, 19)), 1).tobytes())
    assert outputs[0] == outputs[1]


# ----------------------------------------------------------------------------------------------------------- reachable


@pytest.mark.parametrize("log2_table", [5, 14])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 4, 200), (5, 1, 300)], ids=str)
def test_reachable_entries_are_those_that_are_used(shape: tuple[int, int, int], log2_table: int) -> None:
    network = network_for(shape, log2_table)
    layout = network.layout
    cells = network.lattice.axis_cells(layout, full_region(shape), 1)
    for level, group in enumerate(network.groups[: layout.levels]):
        used = np.zeros(group.rows, bool)
        corners = [
            sorted({int(v) + d for v in cells[a][0][level] for d in ((0, 1) if a < layout.dims else (0,))})
            for a in range(3)
        ]
        r, size = int(layout.resolutions[level]), int(layout.sizes[level])
        for x, y, z in itertools.product(*corners):
            if layout.dense[level]:
                used[(x + r * (y + r * z)) % size] = True
            else:
                used[(x ^ (y * nn.PRIME_Y) ^ (z * nn.PRIME_Z)) & (size - 1)] = True
        marked = np.ones(group.rows, bool) if group.reachable is None else group.reachable
        if group.reachable is None:
            assert np.prod([len(c) for c in corners]) > 8 * size
        else:
            np.testing.assert_array_equal(marked, used)


def test_entries_out_of_reach_do_not_matter() -> None:
    network = network_for((2, 3, 30), 14)
    parameters = parameters_of(network)
    changed = [p.copy() for p in parameters]
    for first, group in zip(network.layout.firsts, network.groups, strict=False):
        if group.reachable is not None:
            changed[0][first : first + group.rows][~group.reachable] = np.nan
    assert np.isnan(changed[0]).any()
    before, after = (network.evaluate(p, full_region((2, 3, 30)), 1) for p in (parameters, changed))
    np.testing.assert_array_equal(before, after)


# ------------------------------------------------------------------------------------------------------ streams, growth


def test_parameters_return_rounded_to_their_steps() -> None:
    network = network_for((9, 10, 11))
    parameters = parameters_of(network)
    codes = bytes(range(len(network.groups)))
    steps = steps_of(0.25, codes)
    back = network.unpack(network.pack(parameters, steps), steps)
    for got, given, step, group in zip(
        network.split(back), network.split(parameters), steps, network.groups, strict=True
    ):
        keep = slice(None) if group.reachable is None else group.reachable
        assert np.abs(got[keep] - given[keep]).max() <= step / 2 * 1.00001
        np.testing.assert_allclose(got, np.rint(got / step) * step, rtol=1e-6)


def test_steps_are_quarter_octaves() -> None:
    np.testing.assert_allclose(steps_of(3.0, bytes(range(256))), 3.0 / 2 ** (np.arange(256) / 4), rtol=1e-15)
    relative = np.array([1.0, 0.5, 2.0, 2**-1.25])
    np.testing.assert_allclose(steps_of(2.0, step_codes(relative)), relative, rtol=1e-12)


def test_steps_beyond_the_coder_are_clipped_not_broken() -> None:
    network = network_for((3, 4, 5))
    parameters = parameters_of(network)
    steps = steps_of(1e-9, bytes(len(network.groups)))
    back = network.unpack(network.pack(parameters, steps), steps)
    assert max(np.abs(p).max() for p in back) < 2**20 * 1e-9


@pytest.mark.parametrize("shape", [(12, 13, 14), (1, 24, 25), (1, 1, 80)], ids=str)
@pytest.mark.parametrize(
    "larger",
    [{"log2_table": 7}, {"log2_table": 12}, {"levels": 5}, {"log2_table": 9, "levels": 6}],
    ids=str,
)
def test_grown_networks_keep_their_function(shape: tuple[int, int, int], larger: dict[str, int]) -> None:
    field = Field(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    record = HashGridRecord(6, 3, 2, 4, 2.0, 8, 2)
    settings = HashGrid(batch=256, steps=10)
    start = [torch.from_numpy(p) for p in parameters_of(network_of(record, ArraySpec(shape, np.dtype(np.float32))))]
    trainer = Trainer(field, record, settings, Context(device="cpu", threads=2), torch.device("cpu"), start)
    grown = trainer.grown(replace(record, **larger))
    outputs = []
    for t in (trainer, grown):
        parameters = [p.detach().numpy() for p in t.parameters]
        outputs.append(t.network.evaluate(parameters, full_region(shape), 1))
    before, after = outputs
    if trainer.network.layout.dense.tolist() != grown.network.layout.dense.tolist()[: record.levels]:
        # Dense levels alias the vertices beyond their far side (nets/grid.py), which only the longest axis reaches.
        before, after = before[..., :-1], after[..., :-1]
    # A new level adds zeros, which may regroup the sums.
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-6)
