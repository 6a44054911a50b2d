"""Every backend against float64 references; Triton's kernels run on the CPU under its interpreter where CUDA is not."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid, HashGridRecord
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.fit import trainer as training
from neurcomp_core.fit.device_step import DeviceStep
from neurcomp_core.fit.host_step import HostStep
from neurcomp_core.fit.trainer import Trainer
from neurcomp_core.nets import network as nn
from neurcomp_core.nets.backends import NAMES, PRECISIONS, backend_class, chosen, precision_of
from neurcomp_core.nets.grid import GridLayout
from neurcomp_core.pipeline import compress
from neurcomp_core.target import Ratio

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
HERE = [(n, d) for n in NAMES[1:] for d in DEVICES if not backend_class(n).obstacle(d)]
every_backend = pytest.mark.parametrize(("name", "device"), HERE, ids=[f"{n}-{d}" for n, d in HERE])

#: Relative errors, by their norm, of results and of gradients; docs/gpu.md has the same table.
EXACT = 1e-5
HALF = 2e-3
#: Rectifiers that rounding flips let through a whole gradient, or none.
HALF_GRADIENT = 0.1

#: dims, levels, features, log2_table, base, growth, smooth
LAYOUTS = [
    GridLayout(1, 3, 2, 4, 8, 2.0),
    GridLayout(2, 3, 1, 6, 3, 2.0, True),
    GridLayout(3, 2, 2, 9, 4, 2.0),
    GridLayout(3, 1, 4, 5, 5, 1.5, True),
]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.cpu().double() - wanted.cpu().double()).norm() / wanted.cpu().double().norm())


def tolerance(name: str) -> float:
    # tiny-cuda-nn's tables are of float16.
    return HALF if name == "tinycudann" else EXACT


def random(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def points_for(layout: GridLayout, count: int = 70) -> torch.Tensor:
    """Points of the unit cube, its corners among them; unused axes 0."""
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(1))
    points[:8] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    points[:, layout.dims :] = 0
    return points


def cubes_for(layout: GridLayout, count: int = 9) -> torch.Tensor:
    """Samples of cubes on the coarsest lattice whose samples are less than a cell of `layout` apart."""
    side = int(layout.scales.max()) + 2
    corners = torch.randint(0, side - 1, (count, 3), generator=torch.Generator().manual_seed(1))
    corners[0], corners[1] = 0, side - 2
    members = torch.tensor([[m >> axis & 1 for axis in range(3)] for m in range(1 << layout.dims)])
    points = ((corners[:, None] + members).reshape(-1, 3) + 0.5) / side
    points[:, layout.dims :] = 0
    return points


def check_encoding(name: str, device: str, layout: GridLayout, points: torch.Tensor, cube: int) -> None:
    table = random(layout.entries, layout.features)
    upstream = random(layout.width, len(points), seed=3)
    exact = table.double().requires_grad_()
    wanted = nn.encode_reference(points.double(), exact, layout)
    (wanted_gradient,) = torch.autograd.grad((wanted * upstream).sum(), exact)
    leaf = table.to(device).requires_grad_()
    found = chosen(name, device).encode(points.to(device), leaf, layout, cube)
    assert found.shape == (layout.width, len(points))
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad((found * upstream.to(device)).sum(), leaf)
    # Points of single precision are found in other cells than theirs where they lie on a face: values are continuous.
    assert relative(found, wanted) < tolerance(name)
    assert relative(gradient, wanted_gradient) < tolerance(name)
    # Entries that no point touches get nothing, or what such a face makes of it.
    assert gradient.cpu()[wanted_gradient == 0].abs().sum() < 1e-4


@every_backend
@every_layout
def test_encoding_and_its_gradient(name: str, device: str, layout: GridLayout) -> None:
    check_encoding(name, device, layout, points_for(layout), 1)


@pytest.mark.parametrize("device", [d for n, d in HERE if n == "triton"])
@every_layout
def test_samples_of_cubes_are_summed_before_they_are_added(device: str, layout: GridLayout) -> None:
    check_encoding("triton", device, layout, cubes_for(layout), 2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("inputs", "width", "hidden", "outputs"), [(16, 16, 1, 1), (6, 8, 2, 3), (32, 32, 3, 1), (8, 64, 4, 17)]
)
@every_backend
def test_perceptron_and_its_gradients(
    name: str, device: str, inputs: int, width: int, hidden: int, outputs: int, precision: str
) -> None:
    shapes = (width, inputs), (hidden - 1, width, width), (outputs, width)
    leaves = [random(inputs, 150), *(random(*s, seed=4) / math.sqrt(s[-1]) for s in shapes)]
    # As small as gradients of a mean over a batch: float16 must not lose them.
    upstream = random(outputs, 150, seed=5) * 1e-6
    exact = [t.double().requires_grad_() for t in leaves]
    wanted = nn.mlp_reference(exact[0], tuple(exact[1:]))
    wanted_gradients = torch.autograd.grad((wanted * upstream).sum(), [t for t in exact if t.numel()])
    mine = [t.to(device).requires_grad_() for t in leaves]
    found = chosen(name, device).mlp(mine[0], tuple(mine[1:]), precision)
    assert found.shape == (outputs, 150)
    assert found.dtype == torch.float32
    gradients = torch.autograd.grad((found * upstream.to(device)).sum(), [t for t in mine if t.numel()])
    coarse = name == "tinycudann" or (name == "triton" and precision != "float32")
    assert relative(found, wanted) < (HALF if coarse else EXACT)
    for gradient, other in zip(gradients, wanted_gradients, strict=True):
        assert relative(gradient, other) < (HALF_GRADIENT if coarse else EXACT)


@every_backend
def test_perceptrons_too_large_for_kernels_are_computed_all_the_same(name: str, device: str) -> None:
    weights = random(96, 8) / 3, random(0, 96, 96), random(1, 96) / 10
    x = random(8, 40)
    found = chosen(name, device).mlp(x.to(device), tuple(w.to(device) for w in weights))
    assert relative(found, nn.mlp_reference(x, weights)) < tolerance(name)


# ------------------------------------------------------------------------------------------------------------ training


def plane(side: int = 16) -> Field:
    y, x = np.meshgrid(*(np.linspace(0, 1, side),) * 2, indexing="ij")
    return Field((np.sin(7 * x) * np.cos(5 * y)).astype(np.float32)[None], name="plane")


def trainer_of(name: str, device: str, **settings: object) -> Trainer:
    codec = HashGrid(levels=2, log2_table=7, width=16, hidden=1, batch=128, **settings)  # type: ignore[arg-type]
    record = HashGridRecord(7, 2, 2, 4, 2.0, 16, 1, smooth=codec.smooth)
    context = Context(device, 1, backend=name)
    return Trainer(plane(), record, codec, context, torch.device(device))


def psnr_of(trainer: Trainer) -> float:
    """Of the parameters as they are, on the CPU."""
    field, record = trainer.field, trainer.record
    whole = tuple(slice(0, n) for n in field.values.shape)
    values = trainer.network.evaluate(trainer.weights_of_network(), whole, 1)[0]  # type: ignore[arg-type]
    return metrics.measure(field.values, values * np.float32(record.scale) + np.float32(record.centre)).psnr


@every_backend
def test_training_comes_to_the_same_quality(name: str, device: str) -> None:
    trainer = trainer_of(name, device)
    before = psnr_of(trainer)
    trainer.adapt(15)
    reference = trainer_of("numba", "cpu")
    reference.adapt(15)
    assert psnr_of(reference) > before + 4
    # A GPU draws its own samples.
    assert psnr_of(trainer) == pytest.approx(psnr_of(reference), abs=0.01 if device == "cpu" else 1.5)


@pytest.mark.parametrize(
    "settings", [{}, {"gradient": 0.5, "l1": 0.1}, {"tv": 1e-3, "interpolation": "smoothstep"}], ids=str
)
def test_steps_on_the_device_are_those_of_the_host(settings: dict[str, object]) -> None:
    if ("triton", "cpu") not in HERE:
        pytest.skip("with CUDA there is no interpreter, and a device draws other samples than the host")
    trainers = trainer_of("numba", "cpu", **settings), trainer_of("triton", "cpu", **settings)
    squared: list[list[float]] = []
    for trainer, kind in zip(trainers, (HostStep, DeviceStep), strict=True):
        step = kind(trainer)
        errors = [float(step(False)) for _ in range(2)]
        trainer._sense()
        trainer.set_step(1.5 * trainer.step)
        errors += [float(step(True)) for _ in range(2)]
        trainer.set_step(2 * trainer.step)
        squared.append([*errors, float(step(True))])
    assert squared[1] == pytest.approx(squared[0], rel=1e-5)
    states = ([(p, t.optimiser.state[p]) for p in t.parameters if p.numel()] for t in trainers)
    for (host, old), (device, new) in zip(*states, strict=True):
        # A checkpoint keeps the same of both.
        assert {k: v.shape for k, v in old.items()} == {k: v.shape for k, v in new.items()}
        assert float(old["step"]) == float(new["step"]) == 5
        least = 1e-3 * float(old["exp_avg"].abs().max())
        torch.testing.assert_close(new["exp_avg"], old["exp_avg"], rtol=1e-3, atol=least)
        # Adam makes full steps of rounding where there is no gradient.
        clear = old["exp_avg"].abs() > 10 * least
        assert clear.double().mean() > 0.2
        torch.testing.assert_close(device[clear], host[clear], rtol=1e-3, atol=1e-4)


def test_half_precision_trains_a_float32_network() -> None:
    name, device = next((n, d) for n, d in reversed(HERE) if n == "triton")
    trainer = trainer_of(name, device, precision="float16")
    before = psnr_of(trainer)
    trainer.adapt(15)
    assert all(p.dtype == torch.float32 for p in trainer.parameters)
    assert psnr_of(trainer) > before + 4


def test_cubes_are_known_where_they_are_less_than_a_cell() -> None:
    sampler = trainer_of("numba", "cpu").sampler
    assert sampler.cube(GridLayout(2, 2, 2, 7, 4, 2.0)) == 2
    assert sampler.cube(GridLayout(2, 2, 2, 7, 16, 2.0)) == 1
    assert trainer_of("numba", "cpu", block=4).sampler.cube(GridLayout(2, 2, 2, 7, 4, 2.0)) == 1


def test_devices_draw_every_sample_as_often() -> None:
    sampler = trainer_of("numba", "cpu").sampler
    sampler._blocks = 4000
    for length, edge in ((7, 2), (9, 4), (5, 5), (3, 1)):
        # The phase is one of a batch: many batches.
        starts = torch.cat([sampler._device_starts(length, edge) for _ in range(60)])
        assert starts.dtype == torch.int64
        assert 0 <= starts.min() <= starts.max() <= length - edge
        counts = torch.bincount((starts[:, None] + torch.arange(edge)).reshape(-1), minlength=length).double()
        other = torch.cat([sampler._starts(length, edge) for _ in range(60)])
        reference = torch.bincount((other[:, None] + torch.arange(edge)).reshape(-1), minlength=length).double()
        torch.testing.assert_close(counts / counts.sum(), reference / reference.sum(), rtol=0.25, atol=0)


# ------------------------------------------------------------------------------------------------------------- choosing


def test_what_is_named_is_what_runs() -> None:
    assert {"numba", "torch"} <= {n for n, d in HERE if d == "cpu"}
    assert any(n == "triton" for n, _ in HERE)
    for name, device in HERE:
        assert chosen(name, device).name == name
        assert chosen(name, torch.device(device)).device == device
    assert chosen("auto", "cpu").name == "numba"
    assert chosen("auto", "cuda").name == "triton"


def test_without_triton_cuda_has_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurcomp_core.nets.backend_triton.find_spec", lambda name: None)
    assert chosen("auto", "cuda").name == "torch"
    with pytest.raises(InputError, match=r"^backend triton: the package triton is not installed; .*neurcomp\[gpu\]"):
        chosen("triton", "cuda")


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="backend numba: it computes on the CPU alone; use --device cpu"):
        chosen("numba", "cuda")
    with pytest.raises(InputError, match=r"backend: expected one of auto, triton, .*, got 'jax'"):
        chosen("jax", "cpu")
    with pytest.raises(InputError, match="backend: expected one of auto"):
        Context(backend="jax")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="backend triton: its kernels run on a CUDA device; use --device cuda"):
        chosen("triton", "cpu")
    monkeypatch.setattr("neurcomp_core.nets.backend_tinycudann.find_spec", lambda name: None)
    with pytest.raises(InputError, match="backend tinycudann: the package tinycudann is not installed"):
        chosen("tinycudann", "cuda")


def test_trainers_step_on_the_device_with_triton_alone() -> None:
    assert isinstance(training.step_of(trainer_of("numba", "cpu")), HostStep)
    name, device = next((n, d) for n, d in reversed(HERE) if n == "triton")
    assert not isinstance(training.step_of(trainer_of(name, device)), HostStep)


def test_codecs_pass_the_refusal_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="backend triton: its kernels run on a CUDA device"):
        compress(plane(), Ratio(4), "hashgrid", Context("cpu", 1, backend="triton"))


def test_files_are_measured_on_the_cpu() -> None:
    reference = Context("auto", 1, seed=3, backend="triton").reference
    assert (reference.device, reference.backend, reference.seed) == ("cpu", "auto", 3)


def test_precision_is_chosen_and_refused() -> None:
    numba, triton = chosen("numba", "cpu"), backend_class("triton")
    assert precision_of("auto", numba) == "float32"
    assert precision_of("auto", triton("cpu")) == "float32"
    assert precision_of("auto", triton("cuda")) == "float16"
    assert [precision_of(p, triton("cpu")) for p in PRECISIONS] == list(PRECISIONS)
    with pytest.raises(InputError, match="precision: float16 needs --backend triton, got numba"):
        precision_of("float16", numba)
    with pytest.raises(InputError, match="hashgrid: precision: expected one of auto, float32"):
        HashGrid(precision="half")


def test_every_name_has_a_class() -> None:
    assert [backend_class(n).name for n in NAMES[1:]] == list(NAMES[1:])


# ------------------------------------------------------------------------------------------------------------ compiling

#: Arguments of kernels, and what is known of them when they are compiled, for 16 levels x 2 and a perceptron 64 x 2.
_GRID = {"points": "*fp32", "scales": "*fp32", "strides": "*i32", "firsts": "*i64", "n": "i32"}
_CUBES: dict[str, object] = {"PAIRS": 1, "SMOOTH": False, "TILE": 128}
_MLP = dict.fromkeys(("upstream", "w_in", "w_hidden", "w_out", "scale", "dx", "sums", "y"), "*fp32")
_SIZES: dict[str, object] = {"INPUTS": 32, "WIDTH": 64, "OUTPUTS": 1, "HIDDEN": 2, "IN": 32, "W": 64, "OUT": 16}
_ADAM = dict.fromkeys(("values", "average", "square", "gradient", "origin"), "*fp32")
_GROUPS = dict.fromkeys(("steps", "pressures", "sizes", "found", "rates"), "*fp32")
_BLOCKS = {"starts": "*i64", "ends": "*i64", "groups": "*i32", "working": "*fp16"}
_KERNELS: dict[str, tuple[dict[str, str], dict[str, object], dict[str, int]]] = {
    "nets.triton_cubes:forward_cubes": (_GRID | {"table": "*i32", "out": "*fp16"}, _CUBES | {"HALF": True}, {}),
    "nets.triton_cubes:backward_cubes": (_GRID | {"upstream": "*fp32", "gradient": "*fp32"}, _CUBES, {}),
    "nets.triton_mlp:_backward": (
        _MLP | {"x": "*fp16", "n": "i32", "tiles": "i32"},
        _SIZES | {"OPERAND": "tl.float16", "PRECISION": "ieee", "TILE": 64},
        {"num_stages": 1},
    ),
    "fit.triton_adam:_update": (
        _ADAM | _GROUPS | _BLOCKS,
        {"ROUND": True, "ORIGIN": False, "BETA1": 0.9, "BETA2": 0.99, "EPSILON": 1e-15, "TILE": 1024},
        {},
    ),
}


@pytest.mark.parametrize("kernel", _KERNELS)
def test_kernels_compile_for_the_devices_they_are_for(kernel: str, tmp_path: Path) -> None:
    # The interpreter takes what compilers refuse, and knows no limits of shared memory.
    command = [sys.executable, str(Path(__file__).parent / "sm90.py"), f"neurcomp_core.{kernel}"]
    command += [json.dumps(part) for part in _KERNELS[kernel]]
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cubin"] > 0
    assert found["shared"] <= 227 * 1024
    if "cubes" in kernel:
        # Samples of a cube go to memory and come from there together.
        assert ".global.v4.b32" in found["ptx"]
