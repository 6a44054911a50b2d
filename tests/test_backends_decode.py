"""Decoding on every backend: lattices, points and slopes, memory, and tiny-cuda-nn's order of parameters."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from neurcomp_core import decoding
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs import hashgrid as codec_module
from neurcomp_core.codecs.hashgrid import MARGIN, HashGrid, HashGridRecord, network_of
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid, full_region
from neurcomp_core.fit.host_step import HostStep, SafeStep
from neurcomp_core.fit.sampling import BlockSampler
from neurcomp_core.fit.streaming import BrickSampler, sampler_for
from neurcomp_core.fit.trainer import Trainer
from neurcomp_core.nets import backends, memory, tinycudann
from neurcomp_core.nets.decoder import Decoder
from neurcomp_core.nets.grid import GridLayout, Lattice
from neurcomp_core.nets.memory import Shrinking
from neurcomp_core.nets.model import Network
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.queries import Query, query
from neurcomp_core.target import MaxError, Psnr, Ratio

CPU = Context(device="cpu", threads=1)
#: Backend and device.
PLACES = [("numba", "cpu"), ("torch", "cpu"), ("triton", "cpu")]
if torch.cuda.is_available():
    PLACES = [("numba", "cpu"), ("torch", "cpu"), ("torch", "cuda"), ("triton", "cuda")]
everywhere = pytest.mark.parametrize("place", PLACES, ids="-".join)

#: Shape z, y, x; levels, features, log2_table, base, growth, smooth; width, hidden, outputs.
NETWORKS = [
    ((5, 6, 7), (4, 2, 6, 3, 1.6, False), (16, 2, 1)),
    ((4, 5, 6), (3, 4, 5, 2, 1.9, True), (8, 3, 2)),
    ((4, 3, 5), (3, 1, 4, 2, 2.0, False), (20, 1, 1)),
    ((1, 9, 6), (5, 2, 5, 4, 1.5, True), (16, 2, 3)),
    ((1, 1, 12), (4, 3, 3, 2, 1.7, False), (8, 1, 1)),
]
every_network = pytest.mark.parametrize("case", NETWORKS, ids=lambda c: "x".join(map(str, c[0])))


def network_for(case: Any) -> tuple[Network, list[np.ndarray]]:
    shape, grid, (width, hidden, outputs) = case
    lattice = Lattice(shape)
    network = Network(GridLayout(lattice.dims, *grid), width, hidden, outputs, lattice)
    generator = np.random.default_rng(5)
    table, *weights = (generator.standard_normal(s).astype(np.float32) for s in network.shapes)
    # As trained ones: outputs of about 1.
    return network, [table] + [w / np.float32(w.shape[-1]) ** 0.5 for w in weights]


def decoder_for(place: tuple[str, str], network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
    name, device = place
    return backends.chosen(name, device).decoder(network, parameters)


class Exact:
    """The network in float64 and plain loops over corners, of its definition in FORMAT.md."""

    def __init__(self, network: Network, parameters: Sequence[np.ndarray]) -> None:
        self.network = network
        self.table, self.first, self.inner, self.last = (p.astype(np.float64) for p in parameters)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        layout = self.network.layout
        features = []
        for level in range(layout.levels):
            size = float(layout.base) * layout.growth**level
            scale, resolution = size - 1, int(np.ceil(size - 1)) + 1
            room = -(-(resolution**layout.dims) // 8) * 8
            entries = min(room, 2**layout.log2_table)
            position = points * scale + 0.5
            lower = np.floor(position).astype(np.int64)
            upper = position - lower
            if layout.smooth:
                upper = upper**2 * (3 - 2 * upper)
            total = np.zeros((len(points), layout.features))
            for corner in np.ndindex(*[2] * layout.dims):
                vertex = lower + np.array(corner)
                share = np.where(np.array(corner), upper, 1 - upper).prod(axis=1)
                if resolution**layout.dims <= entries:
                    index = (vertex * resolution ** np.arange(layout.dims)).sum(axis=1) % entries
                else:
                    index = np.zeros(len(points), np.int64)
                    for v, prime in zip(vertex.T, (1, 2654435761, 805459861), strict=False):
                        index ^= v * prime
                    index %= entries
                total += share[:, None] * self.table[layout.firsts[level] + index]
            features.append(total)
        x = np.maximum(np.concatenate(features, axis=1) @ self.first.T, 0)
        for w in self.inner:
            x = np.maximum(x @ w.T, 0)
        return x @ self.last.T

    def slopes(self, points: np.ndarray) -> np.ndarray:
        """Central differences; nan where the two sides differ, that is beside a kink."""
        found, step = [], 1e-6
        for axis in range(points.shape[1]):
            shift = np.zeros(points.shape[1])
            shift[axis] = step
            high, middle, low = self(points + shift), self(points), self(points - shift)
            bent = np.abs(high - 2 * middle + low) > 1e-3 * np.abs(high - low) + 1e-9
            found.append(np.where(bent, np.nan, (high - low) / (2 * step)))
        return np.stack(found, axis=-1)


def lattice_points(network: Network, region: Any, step: int) -> np.ndarray:
    axes = [network.lattice.coordinates(a, np.arange(r.start, r.stop, step)) for a, r in enumerate(region)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[:, list(network.lattice.axes)]


# ------------------------------------------------------------------------------------------------------------ decoders


@everywhere
@every_network
@pytest.mark.parametrize("step", [1, 2])
def test_lattices_and_parts_of_them(case: Any, place: tuple[str, str], step: int) -> None:
    network, parameters = network_for(case)
    decoder, exact = decoder_for(place, network, parameters), Exact(network, parameters)
    for region in (full_region(case[0]), tuple(slice(n // 3, n) for n in case[0])):
        found = decoder.lattice(region, step, scale=3.0, centre=-1.0)  # type: ignore[arg-type]
        wanted = 3 * exact(lattice_points(network, region, step)) - 1
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


@everywhere
@every_network
def test_points_and_slopes(case: Any, place: tuple[str, str]) -> None:
    network, parameters = network_for(case)
    decoder, exact = decoder_for(place, network, parameters), Exact(network, parameters)
    dims = network.layout.dims
    points = np.random.default_rng(1).random((62, dims))
    points[0], points[1] = 0.0, 1.0
    values, slopes = decoder.gradients(points)
    np.testing.assert_array_equal(decoder.values(points).shape, values.shape)
    np.testing.assert_allclose(decoder.values(points), exact(points), rtol=0, atol=3e-6 * np.abs(exact(points)).max())
    np.testing.assert_allclose(values, exact(points), rtol=0, atol=3e-6 * np.abs(exact(points)).max())
    inner = points[2:]
    wanted = exact.slopes(inner)
    smooth = np.isfinite(wanted)
    assert smooth.mean() > 0.9
    assert slopes.shape == (62, network.outputs, dims)
    np.testing.assert_allclose(slopes[2:][smooth], wanted[smooth], rtol=1e-3, atol=2e-4 * np.nanmax(np.abs(wanted)))


@everywhere
def test_no_points_and_points_outside(place: tuple[str, str]) -> None:
    network, parameters = network_for(NETWORKS[0])
    decoder = decoder_for(place, network, parameters)
    assert decoder.values(np.zeros((0, 3))).shape == (0, 1)
    outside = decoder.values(np.array([[-1.0, 0.5, 2.0]]))
    np.testing.assert_array_equal(outside, decoder.values(np.array([[0.0, 0.5, 1.0]])))
    with pytest.raises(ValueError, match="expected shape"):
        decoder.values(np.zeros((3, 2)))


@everywhere
def test_results_go_where_the_caller_says(place: tuple[str, str]) -> None:
    network, parameters = network_for(NETWORKS[0])
    decoder = decoder_for(place, network, parameters)
    region = full_region(NETWORKS[0][0])
    plain = decoder.lattice(region)
    for out in (np.full(plain.shape, np.nan, np.float32), np.full(plain.shape, np.nan, np.float64)):
        assert decoder.lattice(region, out=out) is out
        np.testing.assert_allclose(out, plain, rtol=1e-6)
    whole = np.full((*plain.shape[:2], plain.shape[2] * 2, 1), np.nan, np.float32)
    decoder.lattice(region, out=whole[:, :, ::2])
    np.testing.assert_array_equal(whole[:, :, ::2], plain)
    with pytest.raises(ValueError, match="expected float32 or float64 of shape"):
        decoder.lattice(region, out=plain[1:])


@everywhere
def test_long_axes_are_decoded_in_parts(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    network, parameters = network_for(NETWORKS[0])
    decoder = decoder_for(place, network, parameters)
    region = full_region(NETWORKS[0][0])
    whole = decoder.lattice(region)
    monkeypatch.setattr("neurcomp_core.nets.decoder.LONGEST", 4)
    np.testing.assert_allclose(decoder.lattice(region), whole, atol=1e-6)


def test_wide_layers_go_through_the_libraries() -> None:
    network, parameters = network_for(((4, 4, 4), (2, 2, 5, 2, 1.8, False), (150, 1, 1)))
    name = PLACES[-1]
    region, points = full_region((4, 4, 4)), np.random.default_rng(2).random((9, 3))
    decoder, exact = decoder_for(name, network, parameters), Exact(network, parameters)
    wanted = exact(lattice_points(network, region, 1))
    np.testing.assert_allclose(decoder.lattice(region).reshape(wanted.shape), wanted, atol=1e-5)
    np.testing.assert_allclose(decoder.gradients(points)[0], exact(points), atol=1e-5)


_COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from neurcomp_core.nets import triton_decode as kernels

types = {
    "*fp32": "x_weight y_weight z_weight w_in w_hidden w_out out slopes",
    "*i32": "x_lower y_lower z_lower",
    "*i64": "resolutions sizes firsts dense",
    "*fp64": "points scales",
    "fp32": "scale centre",
}
pointers = {name: kind for kind, names in types.items() for name in names.split()}
common = dict(F=2, DIMS=3, LEVELS=16, HIDDEN=2, PRECISION="tf32x3")
for kernel, own, table in (
    (kernels._lattice, dict(PAIRS=True, WIDTH=64, BLOCK=64), "*i64"),
    (kernels._lattice, dict(PAIRS=True, WIDTH=128, BLOCK=32), "*i64"),
    (kernels._at_points, dict(SMOOTH=True, SLOPES=True, WIDTH=64, BLOCK=16), "*fp32"),
):
    constants = common | own
    types = pointers | {"table": table}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    found = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "num_stages": 1})
    assert found.metadata.shared <= 227 * 1024, found.metadata.shared
    print(kernel.__name__, len(found.asm["cubin"]))
"""


def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter takes more than the compiler does."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", _COMPILE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6


# ------------------------------------------------------------------------------------------------------------- streams


def wave(shape: tuple[int, ...] = (6, 7, 9), dtype: str = "float32") -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape[:3]), indexing="ij")
    values = np.sin(x / 4) * np.cos(y / 5) + z / shape[0]
    if len(shape) == 4:
        values = np.stack([values * (c + 1) for c in range(shape[3])], axis=-1)
    if np.dtype(dtype).kind in "iu":
        values = (values - values.min()) / np.ptp(values) * 0.9 * np.iinfo(dtype).max
    return values.astype(dtype)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Compressed waves by kind."""
    quick = HashGrid(steps=60, batch=1024)
    whole = replace(quick, residual=True)
    grid = UniformGrid((2, 10, 0, 6, 0, 5), (1.0, 2.0, 3.0), (0.5, 0.25, 2.0))
    return {
        "float32": compress(Field(wave(), grid, "a"), Ratio(4), quick, CPU).data,
        "float64": compress(Field(wave(dtype="float64"), grid, "a"), Ratio(8), quick, CPU).data,
        "uint8": compress(Field(wave(dtype="uint8"), grid, "a"), Ratio(1.2), quick, CPU).data,
        "vector": compress(Field(wave((6, 7, 9, 3)), grid, "a"), Ratio(8), quick, CPU).data,
        "residual": compress(Field(wave(), grid, "a"), MaxError(0.01), whole, CPU).data,
        "lossless": compress(Field(wave(dtype="uint8"), grid, "a"), MaxError(0), whole, CPU).data,
    }


@everywhere
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "vector", "residual", "lossless"])
def test_files_decode_alike_within_the_margin(files: dict[str, bytes], place: tuple[str, str], kind: str) -> None:
    name, device = place
    context = replace(CPU, backend=name, device=device)
    record = wire.unpack(HashGridRecord, Container(files[kind]).header.arrays[0].params)
    region = (slice(2, 6), slice(0, 6), slice(3, 9))
    for box, level in ((None, 0), (region, 1)):
        wanted = decompress(files[kind], region=box, level=level, context=CPU)[0].values
        found = decompress(files[kind], region=box, level=level, context=context)[0].values
        assert found.dtype == wanted.dtype
        if kind == "lossless":
            np.testing.assert_array_equal(found, wanted)
        elif kind == "uint8":
            assert np.abs(found.astype(int) - wanted).max() <= 1
        else:
            # Observed to be far closer; see docs/gpu.md.
            assert np.abs(found - wanted).max() <= MARGIN / 8 * record.scale
    if kind == "residual":
        assert np.abs(decompress(files[kind], context=context)[0].values - wave()).max() <= 0.01


def test_promises_hold_at_the_margin(files: dict[str, bytes]) -> None:
    """A decoder that is off by all of the margin keeps lossless arrays lossless."""
    assert MARGIN * 0.9 * 255 < 0.5
    np.testing.assert_array_equal(decompress(files["lossless"], context=CPU)[0].values, wave(dtype="uint8"))


def test_auto_leaves_residuals_to_the_reference(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    found = codec_module.opened

    def opened(encoded: Encoded, spec: ArraySpec, context: Context) -> Any:
        asked.append((context.device, context.backend))
        return found(encoded, spec, context)

    monkeypatch.setattr(codec_module, "opened", opened)
    decompress(files["residual"], context=Context(threads=1))
    decompress(files["float32"], context=Context(threads=1))
    decompress(files["residual"], context=replace(CPU, backend="torch"))
    assert asked == [("cpu", "auto"), ("auto", "auto"), ("cpu", "torch")]


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "vector", "residual"])
def test_arrays_are_decoded_into_memory_of_the_callers(files: dict[str, bytes], kind: str) -> None:
    file = Container(files[kind])
    wanted = decompress(file, context=CPU)[0].values
    out = np.zeros_like(wanted)
    field = decoding.decode_array(file, 0, context=CPU, out=out)
    assert np.shares_memory(field.values, out)
    np.testing.assert_array_equal(out, wanted)
    with pytest.raises(InputError, match="expected a writable C-contiguous array"):
        decoding.decode_array(file, 0, context=CPU, out=out[1:])


def test_large_arrays_come_layer_after_layer(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "_AT_A_TIME", 130)
    for kind in ("float32", "uint8"):
        file = Container(files[kind])
        wanted = decompress(file, context=CPU)[0].values
        blocks = list(decoding.decode_blocks(file, 0, CPU))
        assert len(blocks) > 2
        for region, values in blocks:
            np.testing.assert_array_equal(values, wanted[region])


def test_a_network_is_read_once_for_many_slices(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    file = Container(files["float32"])
    whole = decompress(file, context=CPU)[0].values
    reads: list[int] = []
    read = Network.unpack
    monkeypatch.setattr(Network, "unpack", lambda *a: reads.append(1) or read(*a))
    for z in range(4):
        region = (slice(z, z + 1), slice(0, 7), slice(0, 9))
        np.testing.assert_array_equal(decompress(file, region=region, context=CPU)[0].values, whole[region])
    assert not reads
    decompress(files["float64"], context=CPU)
    assert reads


def test_tinycudann_is_missing_or_does_not_decode(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    context = replace(CPU, backend="tinycudann")
    if "tinycudann" not in sys.modules:
        with pytest.raises(InputError, match=r"TCNN_CUDA_ARCHITECTURES.*--no-build-isolation"):
            decompress(files["float32"], context=context)
    monkeypatch.setattr("neurcomp_core.nets.backend_tinycudann.TinycudannBackend.obstacle", lambda device: "")
    with pytest.raises(InputError, match="it trains but does not decode"):
        decompress(files["float32"], context=context)


# ------------------------------------------------------------------------------------------------------------- queries


@everywhere
def test_queries_of_a_network(files: dict[str, bytes], place: tuple[str, str]) -> None:
    name, device = place
    asked = query(files["vector"], context=replace(CPU, backend=name, device=device))
    assert asked.exact
    field = decompress(files["vector"], context=CPU)[0]
    z, y, x = np.meshgrid(*(np.arange(n) for n in field.values.shape[:3]), indexing="ij")
    grid = field.geometry
    assert isinstance(grid, UniformGrid)
    at = np.stack([x, y, z], -1).reshape(-1, 3) + np.array(grid.extent[::2])
    points = np.array(grid.origin) + at * np.array(grid.spacing)
    np.testing.assert_allclose(asked.sample(points[::7]), field.values.reshape(-1, 3)[::7], atol=2e-5)
    inner = np.random.default_rng(4).uniform(points.min(axis=0) + 0.1, points.max(axis=0) - 0.1, (60, 3))
    slopes = asked.gradient(inner)
    assert slopes.shape == (60, 3, 3)
    step = 1e-3
    for axis in range(3):
        shift = np.eye(3)[axis] * step
        differences = (asked.sample(inner + shift).astype(float) - asked.sample(inner - shift)) / (2 * step)
        # Most points are clear of kinks.
        assert np.median(np.abs(differences - slopes[..., axis])) < 5e-3 * np.abs(slopes).max()
    outside = asked.sample([[100.0, 0.0, 0.0], [2.2, 3.0, 4.0]])
    assert np.isnan(outside[0]).all()
    assert np.isfinite(outside[1]).all()


def linear(shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    return 2 * x - 3 * y + 0.5 * z


def test_queries_of_other_codecs_interpolate() -> None:
    turned = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    grid = UniformGrid((1, 7, 0, 5, 0, 4), (1.0, 0.0, -2.0), (0.5, 2.0, 1.0), turned)
    data = compress(Field(linear((5, 6, 7)), grid, "a"), Psnr(120), "wavelet", CPU).data
    asked = query(data, "a", CPU)
    assert not asked.exact
    index = np.random.default_rng(0).uniform(0, 1, (40, 3)) * np.array([6, 5, 4])
    world = np.array(grid.origin) + (index + [1, 0, 0]) * np.array(grid.spacing) @ np.array(turned).reshape(3, 3).T
    wanted = index @ np.array([2, -3, 0.5])
    np.testing.assert_allclose(asked.sample(world), wanted, atol=1e-4)
    slopes = np.array(turned).reshape(3, 3) @ (np.array([2, -3, 0.5]) / np.array(grid.spacing))
    np.testing.assert_allclose(asked.gradient(world), np.tile(slopes, (40, 1)), atol=1e-3)
    assert np.isnan(asked.sample([[1e9, 0, 0]]))
    assert asked.sample([[1e9, 0, 0]], fill=-1.0) == -1


def test_queries_on_rectilinear_grids_and_cells() -> None:
    grid = RectilinearGrid(np.array([0.0, 1, 3, 7]), np.array([5.0, 4, 2]), np.array([0.0, 0.5]))
    z, y, x = np.meshgrid(grid.z, grid.y, grid.x, indexing="ij")
    data = compress(Field(2 * x - 3 * y + z, grid, "a"), Psnr(120), "wavelet", CPU).data
    points = np.random.default_rng(0).uniform([0, 2, 0], [7, 5, 0.5], (30, 3))
    asked = query(data, context=CPU)
    np.testing.assert_allclose(asked.sample(points), points @ [2, -3, 1], atol=1e-3)
    np.testing.assert_allclose(asked.gradient(points), np.tile([2, -3, 1], (30, 1)), atol=1e-2)
    cells = compress(Field(linear((3, 4, 5)), name="c", association="cell"), Psnr(120), "wavelet", CPU).data
    middles = np.array([[0.5, 0.5, 0.5], [4.5, 3.5, 2.5], [2.0, 1.0, 1.5]])
    wanted = (middles - 0.5) @ [2, -3, 0.5]
    np.testing.assert_allclose(query(cells, context=CPU).sample(middles), wanted, atol=1e-4)
    # To the end of the outermost cells.
    assert np.isfinite(query(cells, context=CPU).sample([[0.0, 0.0, 0.0], [5.0, 4.0, 3.0]])).all()


def test_missing_samples_are_missing_beside_them_alone() -> None:
    values = linear((4, 4, 4))
    values[1, 1, 1] = np.nan
    data = compress(Field(values, name="a"), Psnr(100), "wavelet", CPU).data
    found = query(data, context=CPU).sample([[1.2, 1.2, 1.2], [2.0, 2.0, 2.0], [2.5, 2.5, 2.5]])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [-1.0, -1.25], atol=1e-3)


def test_query_says_what_is_wrong(files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match="no array 'b'; it has: 'a'"):
        query(files["float32"], "b")
    with pytest.raises(InputError, match=r"expected shape \(n, 3\)"):
        query(files["float32"], context=CPU).sample(np.zeros(3))
    two = compress([Field(wave(), name="a"), Field(wave(), name="b")], Psnr(40), "wavelet", CPU).data
    with pytest.raises(InputError, match="which array"):
        query(two)
    assert isinstance(query(two, "b"), Query)


# -------------------------------------------------------------------------------------------------------------- memory


class OutOfMemoryError(RuntimeError):
    """As torch.cuda's is named."""


def test_work_shrinks_until_it_fits() -> None:
    notes: list[str] = []
    sizes: list[int] = []

    def work(size: int) -> int:
        sizes.append(size)
        if size > 100:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return size

    parts = Shrinking(700, 50, "samples at a time", notes.append)
    assert parts.run(work) == 87
    assert sizes == [700, 350, 175, 87]
    assert len(notes) == 3
    assert "700 samples at a time; going on with 350" in notes[0]
    assert parts.run(work) == 87
    assert len(notes) == 3


def test_work_that_never_fits_is_an_error_and_others_pass() -> None:
    def never(size: int) -> None:
        raise MemoryError

    with pytest.raises(InputError, match=r"even for 50 samples.*--device cpu"):
        Shrinking(400, 50, "samples at a time").run(never)

    def other(size: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Shrinking(400, 50, "samples at a time").run(other)
    assert memory.is_out_of_memory(torch.cuda.OutOfMemoryError("x"))


def test_decoding_goes_on_in_smaller_parts(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from neurcomp_core.nets.torch_decode import TorchDecoder

    context = replace(CPU, backend="torch", progress=Progress())
    wanted = decompress(files["float32"], context=context)[0].values
    part = TorchDecoder._lattice_part

    def failing(self: Any, cells: Any, counts: Any, first: int, size: int, factors: Any) -> torch.Tensor:
        if size > 200:
            raise OutOfMemoryError("out of memory")
        return part(self, cells, counts, first, size, factors)

    monkeypatch.setattr(TorchDecoder, "_lattice_part", failing)
    monkeypatch.setattr("neurcomp_core.nets.torch_decode._LEAST", 16)
    monkeypatch.setattr("neurcomp_core.nets.torch_decode._ON_CPU", 1000)
    monkeypatch.setattr(codec_module, "_last", None)
    found = decompress(files["float32"], context=context)[0].values
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert context.progress.notes[-1].endswith("going on with 125")


def trainer_for(context: Context, **changes: Any) -> Trainer:
    settings = HashGrid(steps=10, batch=512, **changes)
    record = HashGridRecord(6, levels=3, base=3, growth=1.7, width=8)
    values = wave((8, 9, 10))
    mask = np.zeros(values.shape, bool)
    mask[2:5, 3:5, 6:] = True
    return Trainer(Field(values, mask=mask), record, settings, context, torch.device("cpu"))


@pytest.mark.parametrize("changes", [{}, {"gradient": 0.1, "l1": 0.1}], ids=["squared", "all terms"])
def test_training_in_parts_takes_the_same_steps(changes: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch adds up to does not depend on how much of it fits at a time."""
    whole = trainer_for(CPU, **changes)
    whole.adapt(4, 2000)
    context = replace(CPU, progress=Progress())
    small = trainer_for(context, **changes)
    output = Trainer.output

    def failing(self: Trainer, points: torch.Tensor, parameters: Any) -> torch.Tensor:
        if len(points) > 300:
            raise OutOfMemoryError("CUDA out of memory")
        return output(self, points, parameters)

    monkeypatch.setattr(Trainer, "output", failing)
    small.adapt(4, 2000)
    assert small.parts.size == 256
    assert context.progress.notes == ["the device has not enough memory for 512 samples at a time; going on with 256"]
    for a, b in zip(whole.parameters, small.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3)
    assert whole.codes == small.codes


def test_steps_of_the_device_give_way_to_the_hosts() -> None:
    context = replace(CPU, progress=Progress())
    trainer, other = trainer_for(context), trainer_for(CPU)
    calls: list[bool] = []

    def failing(rounded: bool) -> torch.Tensor:
        calls.append(rounded)
        raise OutOfMemoryError("CUDA out of memory")

    def none(trainer: Trainer) -> Any:
        raise OutOfMemoryError("CUDA out of memory")

    step, usual = SafeStep(trainer, lambda trainer: failing), HostStep(other)
    for _ in range(3):
        assert float(step(False)) == float(usual(False))
    assert calls == [False]
    SafeStep(trainer, none)(False)
    assert len(context.progress.notes) == 1
    assert "going on with slower ones" in context.progress.notes[0]


def test_auto_looks_for_a_driver_before_it_loads_torch() -> None:
    program = (
        "import sys; from neurcomp_core.nets import devices; devices._has_driver = lambda: False; "
        "assert not devices.on_cuda('auto'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ------------------------------------------------------------------------------------------------------- large volumes


def bricks_of(values: np.ndarray, resident: int, size: int = 256, **more: Any) -> BrickSampler:
    generator = torch.Generator().manual_seed(3)
    lattice = Lattice(values.shape[:3])  # type: ignore[arg-type]
    return BrickSampler(
        values, lattice, more.pop("mask", None), 0.0, 1.0, 2, size, generator, torch.device("cpu"),
        resident=resident, **more,
    )  # fmt: skip


def test_bricks_give_every_sample_its_share() -> None:
    shape = (11, 12, 13)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    sampler = bricks_of(values, 6000, size=512)
    assert sampler.bricks > 16
    counts = np.zeros(values.size)
    for _ in range(8 * sampler.bricks * 4):
        points, targets, weights = sampler.batch()
        assert weights is None
        # A target is the sample that its point says.
        index = np.rint(points.numpy() * max(shape) - 0.5).astype(int)
        rows = (index[:, 2] * shape[1] + index[:, 1]) * shape[2] + index[:, 0]
        assert np.array_equal(rows, targets[0].numpy())
        counts += np.bincount(rows, minlength=values.size)
    # The same as from the whole: cubes that reach over an end are moved inwards.
    whole = BlockSampler(
        values, sampler._lattice, None, 0.0, 1.0, 2, 4096, torch.Generator().manual_seed(0), torch.device("cpu")
    )
    usual = np.zeros(values.size)
    for _ in range(200):
        usual += np.bincount(whole.batch()[1][0].numpy().astype(int), minlength=values.size)
    counts, usual = counts.reshape(shape) / counts.sum(), usual.reshape(shape) / usual.sum()
    for axes in ((1, 2), (0, 2), (0, 1)):
        np.testing.assert_allclose(counts.sum(axis=axes), usual.sum(axis=axes), rtol=0.12)
    assert np.abs(counts - usual).mean() < 0.15 * usual.mean()


def test_bricks_depend_on_seed_and_count_alone() -> None:
    values = wave((14, 15, 16))
    first, second = bricks_of(values, 3000), bricks_of(values, 3000)
    assert first.bricks > 16
    for _ in range(30):
        a, b = first.batch(), second.batch()
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    third = bricks_of(values, 3000)
    third.drawn, state = first.drawn, first.generator.get_state()
    third.generator.set_state(state)
    assert torch.equal(first.batch()[1], third.batch()[1])


def test_bricks_carry_weights_as_blocks_do() -> None:
    values = wave((12, 13, 14, 2))
    mask = np.random.default_rng(0).random(values.shape[:3]) < 0.3
    importance = np.random.default_rng(1).random(values.shape[:3]).astype(np.float32) * ~mask
    generator = torch.Generator().manual_seed(0)
    lattice = Lattice(values.shape[:3])  # type: ignore[arg-type]
    whole = BlockSampler(values, lattice, mask, 0.5, 2.0, 2, 64, generator, torch.device("cpu"), importance)
    parts = bricks_of(values, 4000, mask=mask, importance=importance)
    assert parts.bricks > 16
    assert whole._weights is not None
    for _ in range(20):
        points, _, weights = parts.batch()
        index = np.rint(points.numpy() * 14 - 0.5).astype(int)
        rows = (index[:, 2] * 13 + index[:, 1]) * 14 + index[:, 0]
        assert weights is not None
        torch.testing.assert_close(weights.t(), whole._weights[rows])


def test_volumes_that_fit_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values, generator = wave(), torch.Generator()
    lattice = Lattice(values.shape[:3])  # type: ignore[arg-type]
    rest = 0.0, 1.0, 2, 64, generator
    cpu = torch.device("cpu")
    assert sampler_for(values, lattice, None, *rest, device=cpu).resident
    assert sampler_for(values, lattice, None, *rest, device=cpu, resident=values.nbytes).resident
    assert not sampler_for(values, lattice, None, *rest, device=cpu, resident=values.nbytes - 1).resident
    monkeypatch.setattr("neurcomp_core.fit.streaming.free_bytes", lambda device: values.nbytes)
    assert not sampler_for(values, lattice, None, *rest, device=cpu).resident


def test_training_streams_and_says_so() -> None:
    context = replace(CPU, progress=Progress())
    field = Field(wave((16, 16, 16)))
    settings = HashGrid(steps=150, batch=1024, resident=0.004)
    streamed = compress(field, Ratio(20), settings, context)
    whole = compress(field, Ratio(20), replace(settings, resident=None), CPU)
    assert any("take turns" in note for note in context.progress.notes)
    assert compress(field, Ratio(20), settings, CPU).data == streamed.data
    # Bricks cost little of the quality.
    assert streamed.reports[0].quality.psnr > whole.reports[0].quality.psnr - 3


# -------------------------------------------------------------------------------------------------------- tiny-cuda-nn


class Documented:
    """tiny-cuda-nn's network as its documentation and headers define it, from the flat parameters alone."""

    def __init__(self, dims: int, outputs: int, encoding: dict[str, Any], network: dict[str, Any]) -> None:
        self.dims, self.outputs, self.encoding, self.network = dims, outputs, encoding, network
        self.offsets, self.resolutions, self.scales = [0], [], []
        exponent = np.log2(np.float32(encoding["per_level_scale"]))
        for level in range(encoding["n_levels"]):
            power = np.exp2(np.float32(level) * exponent)
            scale = np.float32(power * np.float32(encoding["base_resolution"]) - np.float32(1))
            resolution = int(np.ceil(scale)) + 1
            size = (resolution**dims + 7) // 8 * 8
            self.offsets.append(self.offsets[-1] + min(size, 1 << encoding["log2_hashmap_size"]))
            self.resolutions.append(resolution)
            self.scales.append(scale)
        self.features = encoding["n_features_per_level"]
        wide = encoding["n_levels"] * self.features
        self.inputs, self.last = wide + -wide % 16, outputs + -outputs % 16
        n, layers = network["n_neurons"], network["n_hidden_layers"]
        self.matrices = [(n, self.inputs)] + [(n, n)] * (layers - 1) + [(self.last, n)]
        self.count = sum(a * b for a, b in self.matrices) + self.offsets[-1] * self.features

    def __call__(self, flat: np.ndarray, points: np.ndarray) -> np.ndarray:
        assert flat.shape == (self.count,)
        at, matrices = 0, []
        for rows, columns in self.matrices:
            matrices.append(flat[at : at + rows * columns].reshape(rows, columns).astype(float))
            at += rows * columns
        grid = flat[at:].reshape(-1, self.features).astype(float)
        x = np.zeros((len(points), self.inputs))
        for level, (resolution, scale) in enumerate(zip(self.resolutions, self.scales, strict=True)):
            size = self.offsets[level + 1] - self.offsets[level]
            for n, point in enumerate(points):
                position = float(scale) * point + 0.5
                whole = np.floor(position).astype(int)
                for corner in np.ndindex(*[2] * self.dims):
                    share, stride, index, hashed = 1.0, 1, 0, 0
                    for d in range(self.dims):
                        part = position[d] - whole[d]
                        if self.encoding["interpolation"] == "Smoothstep":
                            part = part * part * (3 - 2 * part)
                        share *= part if corner[d] else 1 - part
                        vertex = int(whole[d] + corner[d])
                        index += vertex * stride
                        stride *= resolution
                        hashed ^= vertex * (1, 2654435761, 805459861)[d] & 0xFFFFFFFF
                    entry = (hashed if size < stride else index) % size
                    columns = slice(level * self.features, (level + 1) * self.features)
                    x[n, columns] += share * grid[self.offsets[level] + entry]
        for matrix in matrices[:-1]:
            x = np.maximum(x @ matrix.T, 0)
        return (x @ matrices[-1].T)[:, : self.outputs]


@pytest.mark.parametrize("case", NETWORKS[:4:3] + NETWORKS[1:3], ids=lambda c: "x".join(map(str, c[0])))
def test_tiny_cuda_nn_computes_the_same_function(case: Any) -> None:
    network, parameters = network_for(case)
    layout = network.layout
    flat = tinycudann.flat_of(parameters, layout)
    theirs = Documented(
        layout.dims, network.outputs, tinycudann.encoding_config(layout),
        tinycudann.network_config(network.width, network.hidden),
    )  # fmt: skip
    points = np.random.default_rng(0).random((25, layout.dims))
    wanted = Exact(network, parameters)(points)
    # Single-precision scales, and a growth that may be some last bits off, move positions a little.
    np.testing.assert_allclose(theirs(flat, points), wanted, atol=2e-4)
    back = tinycudann.parameters_of(flat, layout, network.width, network.hidden, network.outputs)
    for a, b in zip(back, parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(tinycudann.flat_of(back, layout), flat)
    with pytest.raises(InputError, match=r"expected .* parameters"):
        tinycudann.parameters_of(flat[1:], layout, network.width, network.hidden, network.outputs)


@pytest.mark.parametrize("growth", [1.5, 2.0, 1.26, 1.381912, 1.3195079565048218])
def test_resolutions_survive_single_precision(growth: float) -> None:
    layout = GridLayout(3, 12, 2, 14, 4, float(np.float32(growth)))
    theirs = Documented(3, 1, tinycudann.encoding_config(layout), tinycudann.network_config(16, 1))
    assert theirs.resolutions == list(layout.resolutions)
    np.testing.assert_allclose(theirs.scales, layout.scales, rtol=2e-4)


def test_what_tiny_cuda_nn_has_not() -> None:
    with pytest.raises(InputError, match="no grids of 1 axes"):
        tinycudann.encoding_config(GridLayout(1, 3, 2, 8, 4, 1.5))
    with pytest.raises(InputError, match="3 features"):
        tinycudann.encoding_config(GridLayout(3, 3, 3, 8, 4, 1.5))


class _Module(torch.nn.Module):
    """A module of a stand-in for tinycudann, whose function is ours."""

    def __init__(self, count: int, function: Any) -> None:
        super().__init__()
        self.params = torch.nn.Parameter(torch.zeros(count))
        self._function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._function(x, self.params)


def test_wiring_of_tinycudann_with_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes, padding and gradients; the real package is not here, and nothing here shows that it would agree."""
    from neurcomp_core.nets import backend_tinycudann, network

    layout, width, hidden = GridLayout(3, 3, 2, 6, 2, 1.6), 8, 2

    def encoding(dims: int, config: dict[str, Any], dtype: torch.dtype) -> _Module:
        assert (dims, dtype, config["otype"]) == (3, torch.float32, "HashGrid")
        count = layout.entries * layout.features
        return _Module(count, lambda x, p: network.encode_reference(x, p.view(-1, 2), layout).t())

    def perceptron(inputs: int, outputs: int, config: dict[str, Any]) -> _Module:
        assert config == {
            "otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 16,
            "n_hidden_layers": 2,
        }  # fmt: skip

        def forward(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            first, inner, last = (m.view(16, 16) for m in p.split(256))
            # Whatever is padded with must not matter.
            x = torch.nn.functional.pad(x, (0, 16 - inputs), value=1.0)
            y = torch.relu(torch.relu(x @ first.t()) @ inner.t()) @ last.t()
            return y[:, :outputs].half()

        return _Module(3 * 256, forward)

    stand_in = types.SimpleNamespace(Encoding=encoding, Network=perceptron)
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in)  # type: ignore[arg-type]
    backend_tinycudann._grid.cache_clear()
    backend_tinycudann._perceptron.cache_clear()
    backend = backend_tinycudann.TinycudannBackend("cpu")
    leaves = network.initial_parameters(layout, width, hidden, 2, torch.Generator().manual_seed(0))
    leaves[0] = leaves[0] * 1e4
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    results = []
    for half in (True, False):
        own = [p.clone().requires_grad_() for p in leaves]
        if half:
            y = backend.mlp(backend.encode(points, own[0], layout), tuple(own[1:]), "float16")
        else:
            y = network.mlp_reference(network.encode_reference(points, own[0], layout), tuple(own[1:]))
        results.append((y.detach(), torch.autograd.grad((y * y).sum(), own)))
    backend_tinycudann._grid.cache_clear()
    backend_tinycudann._perceptron.cache_clear()
    (a, ga), (b, gb) = results
    assert a.dtype == torch.float32
    torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)
    for x, y in zip(ga, gb, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-2, atol=1e-2)


def test_networks_of_files_convert(files: dict[str, bytes]) -> None:
    file = Container(files["float32"])
    spec, record = file.spec(0), wire.unpack(HashGridRecord, file.header.arrays[0].params)
    network = network_of(record, spec)
    decoder: Any = codec_module.opened(Encoded(file.header.arrays[0].params, file.lazy_sections(0)), spec, CPU).decoder
    flat = tinycudann.flat_of(decoder.parameters, network.layout)
    back = tinycudann.parameters_of(flat, network.layout, network.width, network.hidden, network.outputs)
    for a, b in zip(back, decoder.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


# ----------------------------------------------------------------------------------------------------------------- VTK


def address(values: np.ndarray) -> int:
    return values.__array_interface__["data"][0]


@everywhere
def test_the_readers_arrays_are_the_decoders_memory(
    files: dict[str, bytes], place: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    from neurcomp_filters import reader as reader_module

    name, device = place
    monkeypatch.setattr(reader_module, "Context", lambda **rest: replace(Context(**rest), device=device, backend=name))
    filled: list[int] = []
    fill = Decoder.lattice

    def lattice(self: Decoder, region: Any, step: int = 1, out: Any = None, *factors: float) -> np.ndarray:
        filled.append(address(out))
        return fill(self, region, step, out, *factors)

    monkeypatch.setattr(Decoder, "lattice", lattice)
    for kind in ("float32", "float64", "vector"):
        (tmp_path / "a.nvc").write_bytes(files[kind])
        reader = reader_module.NvcReader()
        reader.SetFileName(str(tmp_path / "a.nvc"))
        reader.Update()
        array = reader.GetOutputDataObject(0).GetPointData().GetArray("a")
        assert address(vtk_to_numpy(array)) == filled[-1]


def test_a_vtk_array_is_decoded_into(files: dict[str, bytes]) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkFloatArray

    wanted = decompress(files["vector"], context=CPU)[0].values
    array = vtkFloatArray()
    array.SetNumberOfComponents(3)
    array.SetNumberOfTuples(wanted.size // 3)
    out = vtk_to_numpy(array).reshape(wanted.shape)
    decoding.decode_array(Container(files["vector"]), 0, context=CPU, out=out)
    np.testing.assert_array_equal(vtk_to_numpy(array).reshape(wanted.shape), wanted)
    assert array.GetComponent(7, 2) == wanted.reshape(-1, 3)[7, 2]
