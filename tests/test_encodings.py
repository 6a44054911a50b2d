"""Encodings of coordinate networks, and the codec ``network`` that holds them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.codecs.network import Network, NetworkRecord, network_of
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field
from neurcomp_core.nets.coordinate import ACTIVATIONS, CoordinateNetwork, activated
from neurcomp_core.nets.encodings import ENCODINGS, Encoding, Sizes
from neurcomp_core.nets.encodings.spherical import harmonics
from neurcomp_core.nets.grid import Lattice
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import Bytes, MaxError, Psnr

torch = pytest.importorskip("torch")

CONTEXT = Context(device="cpu", threads=1)
SHAPES = [(7, 9, 12), (1, 9, 12), (1, 1, 12)]
SIZES = Sizes(levels=3, features=3, resolution=5, growth=1.7, log2_table=6)
every_encoding = pytest.mark.parametrize("name", ENCODINGS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def encoding_of(name: str, shape: tuple[int, ...], sizes: Sizes = SIZES) -> Encoding:
    return ENCODINGS[name](Lattice(shape), sizes)  # type: ignore[arg-type]


def samples(lattice: Lattice) -> np.ndarray:
    """Positions of all samples, ``(n, 3)`` float32."""
    index = np.indices(lattice.shape).reshape(3, -1)
    points = np.zeros((index.shape[1], 3), np.float32)
    for column, axis in enumerate(lattice.axes):
        points[:, column] = lattice.coordinates(axis, index[axis])
    return points


def tables_of(encoding: Encoding) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(np.float32) for shape in encoding.shapes]


def wave() -> Field:
    z, y, x = np.meshgrid(*(np.arange(n) for n in (9, 10, 12)), indexing="ij")
    return Field((np.sin(x / 4) * np.cos(y / 5) + z / 9).astype(np.float32), name="w")


# ----------------------------------------------------------------------------------------------------------- encodings


@every_encoding
@every_shape
def test_numpy_and_torch_agree(name: str, shape: tuple[int, ...]) -> None:
    encoding = encoding_of(name, shape)
    points, tables = samples(encoding.lattice), tables_of(encoding)
    found = encoding.features(points, tables, np)
    assert found.shape == (encoding.width, len(points))
    assert found.dtype == np.float32
    for kind in (torch.float32, torch.float64):
        other = encoding.features(torch.from_numpy(points).to(kind), [torch.from_numpy(t).to(kind) for t in tables],
                                  torch)  # fmt: skip
        np.testing.assert_allclose(found, other.numpy(), rtol=0, atol=3e-5)


@every_encoding
@every_shape
def test_shapes_are_those_of_tables_and_groups(name: str, shape: tuple[int, ...]) -> None:
    encoding = encoding_of(name, shape)
    assert [t.shape for t in encoding.initial(np.random.default_rng(0))] == encoding.shapes
    assert [(g.rows, g.features) for g in encoding.groups()] == encoding.shapes


@pytest.mark.parametrize("name", [n for n, kind in ENCODINGS.items() if "features" in kind.uses])
def test_gradients_of_tables_are_differences(name: str) -> None:
    encoding = encoding_of(name, (4, 5, 6))
    points = torch.from_numpy(samples(encoding.lattice)).double()
    tables = [torch.from_numpy(t).double().requires_grad_() for t in tables_of(encoding)]
    weights = torch.linspace(-1, 1, encoding.width * len(points), dtype=torch.float64).reshape(encoding.width, -1)

    def total(given: list[Any]) -> Any:
        return (encoding.features(points, given, torch) * weights).sum()

    for number, gradient in enumerate(torch.autograd.grad(total(tables), tables)):
        row = int(gradient.abs().sum(1).argmax())
        with torch.no_grad():
            moved = [t.clone() for t in tables]
            moved[number][row, 1] += 1e-4
            difference = (total(moved) - total(tables)) / 1e-4
        assert float(difference) == pytest.approx(float(gradient[row, 1]), rel=1e-6, abs=1e-8)


def test_every_number_and_name_is_its_own() -> None:
    assert [kind.number for kind in ENCODINGS.values()] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(kind.name == name for name, kind in ENCODINGS.items())
    assert ACTIVATIONS == ("relu", "snake", "sine")


def test_frequencies_and_triangles() -> None:
    u = np.array([[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [1, 0, 0]], np.float32)
    sizes = Sizes(levels=2)
    np.testing.assert_allclose(
        encoding_of("frequency", (1, 1, 4), sizes).features(u, [], np),
        [[0, math.sqrt(0.5), 1, 0], [1, math.sqrt(0.5), 0, -1], [0, 1, 0, 0], [1, 0, -1, 1]], atol=1e-6,
    )  # fmt: skip
    np.testing.assert_array_equal(
        encoding_of("triangle", (1, 1, 4), sizes).features(u, [], np), [[-1, -0.5, 0, 1], [-1, 0, 1, -1]]
    )


def test_high_octaves_stay_exact() -> None:
    encoding = encoding_of("frequency", (1, 1, 1000), Sizes(levels=20))
    points = samples(encoding.lattice)
    exact = encoding.features(points.astype(np.float64), [], np)
    np.testing.assert_allclose(encoding.features(points, [], np), exact, rtol=0, atol=1e-6)


def test_a_blob_is_highest_in_its_own_bin() -> None:
    encoding = encoding_of("oneblob", (3, 6, 12), Sizes(resolution=7))
    assert encoding.width == 7 + 4 + 2
    found = encoding.features(samples(encoding.lattice), [], np).reshape(13, 3, 6, 12)
    np.testing.assert_array_equal(found[:7, 0, 0].argmax(0), (np.arange(12) + 0.5) * 7 // 12)
    assert found.max() <= 1


def test_factors_interpolate_their_vertices() -> None:
    # As many vertices as samples, one cell each: samples in the middle of cells have the mean of two vertices.
    encoding = encoding_of("cp", (1, 1, 4), Sizes(features=1, resolution=5))
    (shape,) = encoding.shapes
    assert shape == (5, 1)
    line = np.arange(5, dtype=np.float32)[:, None] ** 2
    np.testing.assert_allclose(
        encoding.features(samples(encoding.lattice), [line], np), [[0.5, 2.5, 6.5, 12.5]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "tables", "simple"), [("cp", 3, [0, 1, 2]), ("vm", 6, [2]), ("triplane", 3, [])]
)  # fmt: skip
def test_factorised_grids_are_what_they_are_called(name: str, tables: int, simple: list[int]) -> None:
    encoding = encoding_of(name, (9, 9, 9), Sizes(features=1, resolution=9))
    (first, *_) = encoding.features(samples(encoding.lattice), tables_of(encoding), np).reshape(-1, 9, 9, 9)
    found = []
    for axis in range(3):
        singular = np.linalg.svd(np.moveaxis(first, axis, 0).reshape(9, 81).astype(np.float64), compute_uv=False)
        found += [axis] if singular[1] < 1e-5 * singular[0] else []
    # Unfolded along an axis, a product with a line along it has rank 1; x, the first axis, is the array's last.
    assert found == simple
    assert len(encoding.shapes) == tables


def test_harmonics_are_orthonormal() -> None:
    height, weight = np.polynomial.legendre.leggauss(12)
    angle = 2 * np.pi * np.arange(24) / 24
    z, phi = (m.ravel() for m in np.meshgrid(height, angle, indexing="ij"))
    flat = np.sqrt(1 - z * z)
    found = np.stack(harmonics(flat * np.cos(phi), flat * np.sin(phi), z, 5))
    share = np.repeat(weight / 48, 24)
    np.testing.assert_allclose((found * share) @ found.T, np.eye(25), atol=1e-12)


def test_activations() -> None:
    x = np.array([-2.0, 0.0, 1.0])
    np.testing.assert_array_equal(activated(x, "relu", 1, np), [0, 0, 1])
    np.testing.assert_allclose(activated(x, "snake", 1, np), x / 2 + np.sin(x) ** 2)
    np.testing.assert_allclose(activated(x, "sine", 30, np), np.sin(30 * x))


# --------------------------------------------------------------------------------------------------------------- codec


@every_encoding
def test_streams_return_the_integers(name: str) -> None:
    net = CoordinateNetwork(encoding_of(name, (7, 9, 12)), "snake", 5, 2, 2, 20.0)
    rng = np.random.default_rng(1)
    steps = rng.uniform(0.01, 0.1, len(net.shapes))
    parameters = [rng.standard_normal(shape).astype(np.float32) for shape in net.shapes]
    for group, table in zip(net.tables, parameters, strict=False):
        if group.reachable is not None:
            table[~group.reachable] = 0
    expected = [(q * s).astype(np.float32) for q, s in zip(net.symbols(parameters, steps), steps, strict=True)]
    found = net.unpack(net.pack(parameters, steps), steps)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@every_encoding
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_pair_learns_and_fills_its_bytes(name: str, activation: str) -> None:
    field = wave()
    codec = Network(encoding=name, activation=activation, steps=60, batch=512)
    made = compress(field, Bytes(700), codec, CONTEXT)
    assert 0.97 * 700 <= len(made.data) <= 700
    (decoded,) = decompress(made.data, context=CONTEXT)
    assert metrics.measure(field.values, decoded.values) == made.reports[0].quality
    # A constant would have 9.
    assert made.reports[0].quality.psnr > 14
    about = Network.describe(_encoded(made.data))
    assert (about["encoding"], about["activation"]) == (name, activation)


def _encoded(data: bytes) -> Any:
    from neurcomp_core.codec import Encoded

    file = Container(data)
    return Encoded(file.header.arrays[0].params, file.sections(0))


def test_decoding_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "a.nvc"
    path.write_bytes(compress(wave(), Bytes(700), Network(encoding="vm", steps=20, batch=256), CONTEXT).data)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from neurcomp_core.pipeline import decompress\n"
        f"print(decompress({str(path)!r})[0].values.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(9, 10, 12)"


def test_a_residual_keeps_a_bound() -> None:
    field = wave()
    codec = Network(encoding="triplane", steps=60, batch=512, residual=True)
    (decoded,) = decompress(compress(field, MaxError(0.02), codec, CONTEXT).data, context=CONTEXT)
    assert np.abs(decoded.values - field.values).max() <= 0.02


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    from neurcomp_core.errors import Cancelled
    from neurcomp_core.progress import Progress

    codec = Network(encoding="dense", steps=40, batch=256)
    whole = compress(wave(), Bytes(700), codec, CONTEXT).data
    path = tmp_path / "a.ckpt"
    progress = Progress(lambda done, text: progress.cancel() if "step 20/" in text else None)
    with pytest.raises(Cancelled):
        compress(wave(), Bytes(700), codec, replace(CONTEXT, progress=progress, checkpoint=path))
    assert compress(wave(), Bytes(700), codec, replace(CONTEXT, checkpoint=path)).data == whole


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoding": "cubes"}, "encoding: expected one of identity, frequency, .*got 'cubes'"),
        ({"activation": "tanh"}, "activation: expected one of relu, snake, sine, got 'tanh'"),
        ({"width": 0}, "width: expected 1 to 1024, got 0"),
        ({"encoding": "cp", "levels": 3}, "levels: the encoding 'cp' has no such size; it has: features, resolution"),
        ({"growth": 1.0}, "growth: expected more than 1"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Network(**wrong)


def test_a_backend_that_would_not_be_used_is_refused() -> None:
    field = Field(np.random.default_rng(0).random((8, 8, 8), np.float32))
    with pytest.raises(InputError, match="trained with numba on cpu, got backend torch"):
        compress(field, Bytes(500), Network(steps=10, batch=64), Context(device="cpu", backend="torch"))


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": 77}, {"activation": 9}, {"width": 1 << 20}, {"encoding": 4, "resolution": 60000},
        {"encoding": 3, "resolution": 60000}, {"encoding": 1, "levels": 25}, {"codes": b"1"}, {"step": 0.0},
        {"scale": math.inf}, {"log2_table": 28, "levels": 30},
    ],
    ids=str,
)  # fmt: skip
def test_records_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    encoded = _encoded(compress(wave(), Bytes(700), Network(steps=10, batch=64), CONTEXT).data)
    record = replace(wire.unpack(NetworkRecord, encoded.params), **change)
    field = wave()
    with pytest.raises(FormatError):
        Network.decode(
            replace(encoded, params=wire.pack(record)), ArraySpec(field.values.shape, field.values.dtype),
            (slice(0, 9), slice(0, 10), slice(0, 12)), 0, CONTEXT,
        )  # fmt: skip


@every_encoding
@pytest.mark.parametrize("budget", [64, 3000, 200_000])
def test_networks_are_sized_for_their_bytes(name: str, budget: int) -> None:
    from neurcomp_core.fit.network import shape_for

    field = Field(np.linspace(0, 1, 30 * 40 * 50, dtype=np.float32).reshape(30, 40, 50))
    record = shape_for(field, budget, Network(encoding=name))
    net = network_of(record, ArraySpec(field.values.shape, field.values.dtype))
    assert net.parameters <= 256 * (budget + 64)
    if budget == 3000:
        # Most of a hash grid's entries are 0, and cost little.
        assert 0.5 < 8 * budget / net.parameters < 16


def test_a_quality_is_reached_by_growing() -> None:
    made = compress(wave(), Psnr(24), Network(encoding="triangle", steps=60, batch=512), CONTEXT)
    assert made.reports[0].quality.psnr >= 24
