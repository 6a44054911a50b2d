"""Remedies against artefacts of hash grids: smooth interpolation, total variation, gradient loss, sizes."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import MARK, HashGrid, HashGridRecord, network_of, start_of
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit.hashgrid import shape_for
from neurcomp_core.fit.reptile import Plan, meta_train
from neurcomp_core.fit.smoothness import TotalVariation, error_terms
from neurcomp_core.fit.trainer import Trainer
from neurcomp_core.init_file import Init
from neurcomp_core.nets import network as nn
from neurcomp_core.nets.grid import GridLayout, Lattice, smoothstep
from neurcomp_core.nets.model import Network
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import Bytes

CONTEXT = Context(device="cpu", threads=1)
QUICK = HashGrid(steps=40, batch=1024)
SMOOTH = replace(QUICK, interpolation="smoothstep")
CPU = torch.device("cpu")
#: dims, levels, features, log2_table, base, growth: dense, hashed, both
LAYOUTS = [GridLayout(*a, smooth=True) for a in (
    (1, 4, 2, 12, 8, 1.5), (2, 4, 1, 6, 4, 2.0), (2, 3, 4, 14, 3, 1.7), (3, 5, 2, 9, 3, 1.6),
)]  # fmt: skip
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def wave(phase: float = 0.0, shape: tuple[int, int, int] = (12, 13, 14)) -> Field:
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return Field((np.sin(x / 3 + phase) * np.cos(y / 4) + z / 9).astype(np.float32), name=f"w{phase:g}")


def random(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoded_of(data: bytes) -> tuple[Encoded, ArraySpec]:
    file = Container(data)
    return Encoded(file.header.arrays[0].params, file.sections(0)), file.spec(0)


# ------------------------------------------------------------------------------------------------ smooth interpolation


def test_smoothstep() -> None:
    ends = np.array([0, 0.25, 0.5, 1])
    np.testing.assert_allclose(smoothstep(ends), [0, 0.15625, 0.5, 1])


@every_layout
def test_kernels_agree_with_the_reference(layout: GridLayout) -> None:
    points = torch.rand(700, 3, generator=torch.Generator().manual_seed(1))
    points[:8] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    points[:, layout.dims :] = 0
    table, upstream = random(layout.entries, layout.features), random(layout.width, len(points), seed=3)
    results = []
    for encode in (nn.encode, nn.encode_reference):
        leaf = table.clone().requires_grad_()
        out = encode(points, leaf, layout)
        (gradient,) = torch.autograd.grad((out * upstream).sum(), leaf)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=2e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(results[0][0], nn.encode(points, table, replace(layout, smooth=False)), atol=1e-2)


def test_slopes_are_continuous_across_cells() -> None:
    def slopes(layout: GridLayout) -> tuple[float, float]:
        """Largest jump of the slope and largest slope along a line, in float64."""
        points = torch.zeros(4001, 3, dtype=torch.float64)
        points[:, 0] = torch.linspace(0, 1, 4001, dtype=torch.float64)
        table = random(layout.entries, 1).double()
        slope = nn.encode_reference(points, table, layout)[0].diff()
        return float(slope.diff().abs().max()), float(slope.abs().max())

    layout = GridLayout(1, 1, 1, 8, 9, 2.0)
    jump, largest = slopes(layout)
    assert jump > 0.3 * largest
    jump, largest = slopes(replace(layout, smooth=True))
    assert jump < 0.02 * largest


@pytest.mark.parametrize(("shape", "region", "step"), [
    ((9, 10, 13), None, 1), ((1, 12, 17), None, 1), ((9, 10, 13), (slice(2, 9), slice(0, 7), slice(5, 12)), 2),
])  # fmt: skip
def test_lattices_decode_to_the_reference(shape: tuple[int, int, int], region: tuple | None, step: int) -> None:
    lattice = Lattice(shape)
    layout = GridLayout(lattice.dims, 4, 2, 7, 4, 1.7, smooth=True)
    network = Network(layout, 8, 2, 1, lattice)
    parameters = [random(*s, seed=i) for i, s in enumerate(network.shapes)]
    box = region or full_region(shape)
    got = network.evaluate([p.numpy() for p in parameters], box, step)
    index = np.stack(np.meshgrid(*(np.arange(r.start, r.stop, step) for r in box), indexing="ij"), -1).reshape(-1, 3)
    points = torch.zeros(len(index), 3)
    for column, axis in enumerate(lattice.axes):
        points[:, column] = torch.from_numpy(lattice.coordinates(axis, index[:, axis]))
    expected = nn.mlp_reference(nn.encode_reference(points, parameters[0], layout), tuple(parameters[1:]))
    scale = float(expected.abs().max())
    np.testing.assert_allclose(got.reshape(1, -1), expected.numpy(), rtol=0, atol=1e-5 * scale)


def test_files_say_how_they_interpolate() -> None:
    data = compress(wave(), Bytes(2000), replace(SMOOTH, steps=200), CONTEXT).data
    encoded, spec = encoded_of(data)
    record = wire.unpack(HashGridRecord, encoded.params)
    assert record.smooth
    assert HashGrid.describe(encoded)["interpolation"] == "smoothstep"
    network = network_of(record, spec)
    # Readers of before count the codes, and refuse.
    assert record.codes.endswith(MARK)
    assert len(record.codes) == len(network.groups) + 1
    other = replace(record, smooth=False)
    with pytest.raises(FormatError, match="quantiser steps"):
        HashGrid.decode(Encoded(wire.pack(other), encoded.sections), spec, full_region(spec.shape), 0, CONTEXT)
    without = replace(record, codes=record.codes[:-1])
    with pytest.raises(FormatError, match="quantiser steps"):
        HashGrid.decode(Encoded(wire.pack(without), encoded.sections), spec, full_region(spec.shape), 0, CONTEXT)
    # What trained is what decodes: the same parameters interpolated linearly are another field.
    decoded = decompress(data, context=CONTEXT)[0].values
    linear = Encoded(wire.pack(replace(record, smooth=False, codes=record.codes[:-1])), encoded.sections)
    misread = HashGrid.decode(linear, spec, full_region(spec.shape), 0, CONTEXT)
    original = wave().values
    assert np.square(decoded - original).mean() < 0.5 * np.square(misread - original).mean()


def test_linear_files_take_no_byte_more() -> None:
    encoded, spec = encoded_of(compress(wave(), Bytes(900), QUICK, CONTEXT).data)
    record = wire.unpack(HashGridRecord, encoded.params)
    assert len(record.codes) == len(network_of(record, spec).groups)
    assert "interpolation" not in HashGrid.describe(encoded)
    assert wire.pack(replace(record, smooth=True))[: len(encoded.params)] == encoded.params


def test_starts_keep_their_interpolation(tmp_path: Path) -> None:
    smooth = meta_train([wave(0.0), wave(0.5)], 900, SMOOTH, Plan(2, 3), CONTEXT, "s")
    linear = meta_train([wave(0.0), wave(0.5)], 900, QUICK, Plan(2, 3), CONTEXT, "l")
    smooth.write(tmp_path / "s.nvi")
    again = Init.read(tmp_path / "s.nvi")
    assert again.record == smooth.record
    assert again.record.smooth
    assert again.record.layout.smooth
    # The version tells older readers; it must fit the head.
    assert (smooth.data[4], linear.data[4]) == (2, 1)
    broken = bytearray(smooth.data[:-4])
    broken[4] = 1
    with pytest.raises(FormatError, match="version 1 and smoothstep"):
        Init.from_bytes(bytes(broken) + zlib.crc32(broken).to_bytes(4, "little"))
    # Networks that start there interpolate alike, unasked; asked otherwise, they cannot.
    for settings, init in ((QUICK, smooth), (SMOOTH, smooth)):
        encoded, _ = encoded_of(compress(wave(0.3), Bytes(900), settings, replace(CONTEXT, init=init)).data)
        assert wire.unpack(HashGridRecord, encoded.params).smooth
    with pytest.raises(InputError, match="interpolation: the start 'l' has linear, got smoothstep"):
        compress(wave(0.3), Bytes(900), SMOOTH, replace(CONTEXT, init=linear))
    begun = replace(CONTEXT, init=smooth)
    data = compress(wave(0.3), Bytes(900), replace(SMOOTH, delta_init=True), begun).data
    record = wire.unpack(HashGridRecord, encoded_of(data)[0].params)
    assert record.marks == 2 * MARK
    decoded = decompress(data, context=begun)[0].values
    assert np.abs(decoded - wave(0.3).values).mean() < 0.2


def test_a_stream_is_a_start_with_its_interpolation() -> None:
    encoded, spec = encoded_of(compress(wave(), Bytes(900), SMOOTH, CONTEXT).data)
    init = start_of(encoded, spec)
    assert init is not None
    assert init.record.smooth


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    from neurcomp_core.errors import Interrupted
    from neurcomp_core.progress import Progress

    settings = replace(SMOOTH, tv=1e-4, gradient=0.5)
    whole = compress(wave(), Bytes(900), settings, CONTEXT).data
    progress = Progress(lambda done, text: progress.cancel() if done > 0.5 else None)
    kept = replace(CONTEXT, checkpoint=tmp_path / "c.npz")
    with pytest.raises(Interrupted):
        compress(wave(), Bytes(900), settings, replace(kept, progress=progress))
    assert compress(wave(), Bytes(900), settings, kept).data == whole


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="interpolation: expected one of linear, smoothstep, got 'cubic'"):
        HashGrid(interpolation="cubic")
    with pytest.raises(InputError, match="tv must not be negative"):
        HashGrid(tv=-1.0)
    with pytest.raises(InputError, match="max_load: expected"):
        HashGrid(max_load=0.0)


# ----------------------------------------------------------------------------------------------------- total variation


def plain_variation(table: np.ndarray, layout: GridLayout, lattice: Lattice) -> float:
    """The definition, vertex by vertex; a level must not have more vertices than a step looks at."""
    total = 0.0
    for level in range(layout.levels):
        r, size, first = (int(a[level]) for a in (layout.resolutions, layout.sizes, layout.firsts))
        positions = [
            (np.arange(lattice.shape[a]) + 0.5) / max(lattice.shape) * layout.scales[level] + 0.5 for a in lattice.axes
        ]
        # Cells from the first sample's to the last one's.
        spans = [range(math.floor(p[0]), math.floor(p[-1]) + 1) for p in positions]
        if layout.scales[level] > 0.99 * max(lattice.shape):
            spans = [sorted({math.floor(t) for t in p}) for p in positions]  # type: ignore[misc]

        def entry(vertex: tuple[int, ...], r: int = r, size: int = size, first: int = first, level: int = level) -> int:
            x, y, z = (*vertex, 0, 0)[:3]
            dense = x + r * (y + r * z)
            return first + (dense % size if layout.dense[level] else (x ^ y * 2654435761 ^ z * 805459861) % size)

        roots = []
        for vertex in itertools.product(*spans):
            here = table[entry(vertex)]
            squares = np.full(layout.features, 1e-6)
            for axis in range(layout.dims):
                beside = tuple(v + (a == axis) for a, v in enumerate(vertex))
                squares += (table[entry(beside)] - here) ** 2
            roots.append(np.sqrt(squares))
        total += float(np.sum(np.mean(roots, axis=0)))
    return total


VARIED = [
    (GridLayout(1, 3, 2, 12, 4, 2.0), (1, 1, 30)), (GridLayout(2, 3, 1, 5, 4, 2.0), (12, 1, 20)),
    (GridLayout(3, 3, 2, 7, 3, 2.0), (6, 7, 9)), (GridLayout(3, 2, 3, 14, 4, 3.0), (5, 5, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "shape"), VARIED, ids=str)
def test_total_variation_is_its_definition(layout: GridLayout, shape: tuple[int, int, int]) -> None:
    lattice = Lattice(shape)
    assert lattice.dims == layout.dims
    variation = TotalVariation(layout, lattice, torch.Generator().manual_seed(0), CPU)
    table = random(layout.entries, layout.features).double()
    assert float(variation.value(table)) == pytest.approx(plain_variation(table.numpy(), layout, lattice), rel=1e-9)


@pytest.mark.parametrize(("layout", "shape"), VARIED, ids=str)
def test_its_gradient_is_exact(layout: GridLayout, shape: tuple[int, int, int]) -> None:
    variation = TotalVariation(layout, Lattice(shape), torch.Generator().manual_seed(0), CPU)
    leaf = random(layout.entries, layout.features).double().requires_grad_()
    (expected,) = torch.autograd.grad(0.7 * variation.value(leaf), leaf)
    got = torch.ones_like(leaf)
    variation.add_gradient(leaf, 0.7, got)
    torch.testing.assert_close(got, 1 + expected, rtol=1e-12, atol=1e-14)


def test_large_levels_are_sampled() -> None:
    # 2 x 40^3 vertices are more than a call looks at: its mean is near that of all, and differs from call to call.
    layout = GridLayout(3, 1, 1, 20, 41, 2.0)
    lattice = Lattice((200, 200, 200))
    table = random(layout.entries, 1).double()
    variation = TotalVariation(layout, lattice, torch.Generator().manual_seed(0), CPU)
    found = [float(variation.value(table)) for _ in range(4)]
    assert len(set(found)) == 4
    r = int(layout.resolutions[0])
    grid = table[: r**3, 0].reshape(r, r, r)
    # The cells that samples lie in begin at the first vertex.
    inner = grid[:-1, :-1, :-1]
    parts = (grid[1:, :-1, :-1] - inner, grid[:-1, 1:, :-1] - inner, grid[:-1, :-1, 1:] - inner)
    whole = float((sum(p.square() for p in parts) + 1e-6).sqrt().mean())  # type: ignore[union-attr]
    assert np.mean(found) == pytest.approx(whole, rel=0.01)


def test_weight_makes_grids_smooth() -> None:
    found = []
    for weight in (0.0, 1e-2):
        settings = replace(QUICK, tv=weight)
        record = shape_for(wave(), 1500, settings)
        trainer = Trainer(wave(), record, settings, CONTEXT, CPU)
        trainer.adapt(40)
        layout = trainer.network.layout
        variation = TotalVariation(layout, trainer.network.lattice, torch.Generator().manual_seed(0), CPU)
        found.append(float(variation.value(trainer.parameters[0].detach())))
    assert found[1] < 0.5 * found[0]


# ------------------------------------------------------------------------------------------------------- gradient loss


def test_terms_are_those_of_differences() -> None:
    field = wave()
    settings = replace(QUICK, gradient=0.5, l1=0.25)
    trainer = Trainer(field, shape_for(field, 900, settings), settings, CONTEXT, CPU)
    sampler = trainer.sampler
    error = random(1, sampler.points)
    cubes = error.reshape(1, -1, 2, 2, 2)
    squares = sum(float((cubes.narrow(a, 1, 1) - cubes.narrow(a, 0, 1)).square().mean()) for a in (2, 3, 4))
    expected = 3 * (0.5 * squares + 0.25 * float(error.abs().mean()))
    assert float(error_terms(error, 3.0, sampler, settings)) == pytest.approx(expected, rel=1e-5)
    assert error_terms(error, 3.0, sampler, QUICK) == 0


def test_differences_gain_and_values_pay() -> None:
    # A strong smooth part, and a weak one of high frequency; too few parameters for both.
    field = wave(0.2, (20, 20, 20))
    field = Field((field.values + 0.3 * np.sin(2.2 * np.arange(20))).astype(np.float32))
    errors = []
    for weight in (0.0, 4.0):
        settings = HashGrid(levels=3, log2_table=6, width=8, batch=4096, gradient=weight)
        trainer = Trainer(field, shape_for(field, 500, settings), settings, CONTEXT, CPU)
        trainer.adapt(200)
        out = trainer.network.evaluate(trainer.weights_of_network(), full_region(field.values.shape), 1)[0]
        decoded = out * trainer.record.scale + trainer.record.centre
        error = decoded - field.values
        errors.append((sum(float(np.square(np.diff(error, axis=a)).mean()) for a in range(3)), np.square(error).mean()))
    assert errors[1][0] < 0.97 * errors[0][0]
    assert errors[1][1] > errors[0][1]


# --------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("shape", [(64, 64, 64), (30, 64, 50), (1, 200, 90)])
@pytest.mark.parametrize("most", [1.0, 4.0])
def test_tables_are_not_crowded(shape: tuple[int, int, int], most: float) -> None:
    field = Field(np.random.default_rng(0).random(shape, np.float32))
    plain = shape_for(field, 1000, HashGrid())
    sized = shape_for(field, 1000, HashGrid(max_load=most))
    spec = ArraySpec(shape, np.dtype("f4"))

    def load(record: HashGridRecord) -> float:
        """Vertices of the finest level's cells that hold samples, by its table's length."""
        network = network_of(record, spec)
        lower = network.lattice.lower_vertices(network.layout, record.levels - 1)
        return math.prod(map(len, lower)) / 2**record.log2_table

    assert load(plain) > 6
    assert 0.5 * most < load(sized) < 1.3 * most
    assert sized.log2_table == plain.log2_table
    # A bound that holds anyway changes nothing.
    assert shape_for(field, 1000, HashGrid(max_load=1e6)) == plain
