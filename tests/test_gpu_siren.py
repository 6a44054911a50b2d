"""Sine networks on a device: engines against float64, steps against NumPy's, files that decode everywhere.

Without a GPU the Triton kernels run in Triton's interpreter, and torch on the CPU.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Only now: Triton decides when it is loaded.
pytest.importorskip("triton")

from neurcomp_core.codec import Context, measured
from neurcomp_core.codecs.siren import Siren, SirenRecord
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Cancelled, InputError
from neurcomp_core.field import Field, UniformGrid, full_region
from neurcomp_core.fit.checkpoint import Checkpoint
from neurcomp_core.fit.siren_batches import Batches
from neurcomp_core.fit.siren_course import Course
from neurcomp_core.fit.siren_device import DeviceCourse
from neurcomp_core.fit.siren_device_batches import DeviceBatches
from neurcomp_core.fit.siren_device_optimiser import DeviceSoap
from neurcomp_core.fit.siren_gradients import TorchLoss
from neurcomp_core.fit.siren_optimiser import Soap
from neurcomp_core.fit.siren_trainer import Trainer, initial_parameters
from neurcomp_core.nets.siren import Siren as Net
from neurcomp_core.nets.siren import axis_coordinates, forward, forward_torch, values_and_slopes
from neurcomp_core.nets.siren_engines import Engine, TorchEngine, engine_for
from neurcomp_core.nets.siren_flat import Flat, Places
from neurcomp_core.nets.siren_triton import TritonEngine
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.queries import query
from neurcomp_core.target import Bytes

#: Relative error of gradients and of values (of a range of 2) against float64: docs/gpu.md states the same.
GRADIENTS, VALUES = 1e-5, 2e-6
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
ENGINES = [(kind, device) for device in DEVICES for kind in (TritonEngine, TorchEngine)]
# Triton's interpreter stands for the GPU where there is none; its kernels compiled need one.
ENGINES = [(k, d) for k, d in ENGINES if k is TorchEngine or d == DEVICES[-1]]
engines = pytest.mark.parametrize(("kind", "device"), ENGINES, ids=lambda p: getattr(p, "__name__", p))
nets = pytest.mark.parametrize(
    "net",
    [Net(20, 3, 3, 1, 20.0), Net(7, 4, 2, 3, 30.0), Net(16, 3, 1, 1, 30.0, residual=False), Net(5, 1, 3, 2)],
    ids=["residual", "plane", "plain", "one layer"],
)
BACKENDS = [(k.__name__.removesuffix("Engine").lower(), d) for k, d in ENGINES]
backends = pytest.mark.parametrize(("backend", "device"), BACKENDS)
CONTEXT = Context(device="cpu", threads=1)
QUICK = Siren(steps=40, batch=128, layers=2)


def waves(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    terms = [np.sin(sum(k * a for k, a in zip(rng.uniform(2, 9, len(shape)), axes, strict=True))) for _ in range(3)]
    return np.sum(terms, axis=0).astype(np.float32)


def parameters_of(net: Net) -> list[np.ndarray]:
    found = initial_parameters(net, np.random.default_rng(0))
    found[-1] += np.float32(0.1)
    return found


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double().cpu() - expected).norm() / expected.norm())


class Case:
    """A network on a box of samples, and some of these with values and weights."""

    def __init__(self, net: Net, kind: type[Engine], device: str, n: int = 150) -> None:
        self.net, self.device = net, torch.device(device)
        self.engine = kind(net, self.device)
        self.parameters = parameters_of(net)
        self.axes = axis_coordinates((5, 6, 7)[3 - net.inputs :])
        self.places = Places.of(self.axes, self.device)
        generator = torch.Generator().manual_seed(1)
        total = math.prod(map(len, self.axes))
        self.index = torch.randint(total, (n,), generator=generator)
        self.values = torch.randn(n, net.outputs, generator=generator)
        self.shares = torch.rand(n, net.outputs, generator=generator)
        grid = np.stack(np.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, net.inputs)
        self.points = torch.from_numpy(grid).double()

    def exact(self, shares: torch.Tensor | None, given: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient in float64."""
        held = [torch.from_numpy(p).double().requires_grad_() for p in self.parameters]
        outputs = forward_torch(self.net, held, self.points[self.index])
        missed = (outputs - self.values.double()) ** 2
        loss = missed.mean() if shares is None else (missed * shares.double()).sum()
        if given:
            loss = (outputs * self.values.double()).sum()
        found = [g.numpy() for g in torch.autograd.grad(loss, held)]
        pairs = [np.column_stack([w, b]).ravel() for w, b in zip(found[::2], found[1::2], strict=True)]
        return loss.detach(), torch.from_numpy(np.concatenate(pairs))

    def on(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device)


@engines
@nets
def test_gradients_are_those_of_float64(net: Net, kind: type[Engine], device: str) -> None:
    case = Case(net, kind, device)
    flat = case.engine.tensor(case.parameters)
    index, values = case.on(case.index), case.on(case.values)
    for shares in (None, case.shares):
        weighted = None if shares is None else case.on(shares)
        loss, gradient = case.engine.gradients(flat, case.places, index, values, weighted)
        expected_loss, expected = case.exact(shares)
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
        assert relative(gradient, expected) < GRADIENTS
    found = case.engine.products(flat, case.places, index, values)
    assert relative(found, case.exact(None, given=True)[1]) < GRADIENTS


@engines
def test_many_points_come_in_several_launches(kind: type[Engine], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurcomp_core.nets.siren_triton._PROGRAMS", 1)
    case = Case(Net(6, 2, 3, 1), kind, device, n=300)
    flat = case.engine.tensor(case.parameters)
    shares = case.on(case.shares)
    loss, gradient = case.engine.gradients(flat, case.places, case.on(case.index), case.on(case.values), shares)
    expected_loss, expected = case.exact(case.shares)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    assert relative(gradient, expected) < GRADIENTS


@engines
@nets
def test_values_are_those_of_float64(
    net: Net, kind: type[Engine], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(net, kind, device)
    flat = case.engine.tensor(case.parameters)
    exact = forward(net, [p.astype(np.float64) for p in case.parameters], case.points.numpy()).T
    monkeypatch.setattr(kind, "part", lambda self: 100)
    found = case.engine.lattice(flat, case.axes).reshape(net.outputs, -1)
    assert np.abs(found - exact).max() < VALUES * max(1.0, np.abs(exact).max())
    at = case.engine.values(flat, case.on(case.points[:33].float()))
    assert np.abs(at.cpu().numpy() - exact[:, :33]).max() < VALUES * max(1.0, np.abs(exact).max())


@nets
def test_slopes_are_those_of_autograd(net: Net) -> None:
    case = Case(net, TorchEngine, "cpu")
    at = case.points[:20].clone().requires_grad_()
    outputs = forward_torch(net, [torch.from_numpy(p).double() for p in case.parameters], at)
    expected = [torch.autograd.grad(outputs[:, c].sum(), at, retain_graph=True)[0] for c in range(net.outputs)]
    exact = [p.astype(np.float64) for p in case.parameters]
    values, slopes = values_and_slopes(net, exact, at.detach().numpy(), np)
    np.testing.assert_allclose(values, outputs.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(slopes, torch.stack(expected, 1).numpy(), atol=1e-9)


@backends
def test_a_file_is_asked_at_points(backend: str, device: str) -> None:
    values = waves((6, 1, 8, 2))
    grid = UniformGrid((0, 7, 0, 0, 0, 5), (1.0, 2.0, 3.0), (0.5, 1.0, 0.25))
    data = compress(Field(values, grid, "flow"), Bytes(700), QUICK, CONTEXT).data
    asked = query(data, "flow", replace(CONTEXT, device=device, backend=backend))
    assert asked.exact
    decoded = decompress(data, context=CONTEXT)[0].values
    z, x = np.meshgrid(np.arange(6), np.arange(8), indexing="ij")
    at = np.stack([1 + 0.5 * x, np.full(x.shape, 2.0), 3 + 0.25 * z], axis=-1).reshape(-1, 3)
    spread = float(np.ptp(values))
    np.testing.assert_allclose(asked.sample(at), decoded.reshape(-1, 2), atol=1e-4 * spread)
    # Between samples: derivatives against central differences.
    middle, h = at[(at[:, 0] < 4) & (at[:, 2] < 4)] + [0.21, 0, 0.07], 2e-3
    slopes = asked.gradient(middle)
    for axis in (0, 2):
        step = h * np.eye(3)[axis]
        change = (asked.sample(middle + step) - asked.sample(middle - step)) / (2 * h)
        np.testing.assert_allclose(slopes[..., axis], change, atol=0.02 * float(np.abs(slopes).max()))
    assert not slopes[..., 1].any()
    assert np.isnan(asked.sample([[99.0, 2.0, 3.0]])).all()


def test_flat_parameters_come_back() -> None:
    net = Net(4, 3, 2, 2)
    parameters, flat = parameters_of(net), Flat(net)
    joined = flat.join(parameters)
    for found, expected in zip(flat.split(joined), parameters, strict=True):
        np.testing.assert_array_equal(found, expected)
    first, inner, last = flat.stacks(torch.from_numpy(joined))
    np.testing.assert_array_equal(inner[2, :, :-1].numpy(), parameters[6])
    np.testing.assert_array_equal(first[0, :, -1].numpy(), parameters[1])
    np.testing.assert_array_equal(last[0, :, :-1].numpy(), parameters[-2])
    np.testing.assert_array_equal(joined[flat.groups == 3], parameters[3])


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("device", DEVICES)
def test_an_optimiser_takes_the_same_steps(device: str) -> None:
    net = Net(6, 3, 3, 1)
    rng = np.random.default_rng(0)
    parameters = parameters_of(net)
    ours, flat = Soap(parameters), Flat(net)
    # Scales fall, so that no eigenvectors are arbitrary; the first gradients leave some open, and are NumPy's alone.
    scales = [np.geomspace(1, 0.1, p.size).reshape(p.shape).astype(np.float32) for p in parameters]

    def gradients() -> list[np.ndarray]:
        return [rng.normal(size=p.shape).astype(np.float32) * s for p, s in zip(parameters, scales, strict=True)]

    for _ in range(25):
        ours.step(gradients(), 1e-3)
    theirs = DeviceSoap(flat, torch.device(device))
    theirs.restore(ours.state())
    moved = torch.from_numpy(flat.join(parameters)).to(device)
    for i in range(21):
        found = gradients()
        ours.step(found, 1e-3 * (1 + i))
        gradient = torch.from_numpy(flat.join(found)).to(device)
        theirs.begin(1e-3 * (1 + i))
        theirs.observe(gradient)
        theirs.renew()
        theirs.move(gradient, moved)
    np.testing.assert_allclose(moved.cpu().numpy(), flat.join(parameters), atol=2e-4)
    again = DeviceSoap(flat, torch.device(device))
    again.restore(theirs.state())
    assert again.count == 46
    assert all(torch.equal(a, b) for a, b in zip(again.tensors, theirs.tensors, strict=True))
    again.reset()
    assert again.count == 0
    assert not any(tensor.any() for tensor in again.tensors)


@pytest.mark.parametrize("device", DEVICES)
def test_a_first_step_goes_nowhere_for_rounding_errors(device: str) -> None:
    net = Net(11, 2, 3, 1)
    rng = np.random.default_rng(0)
    flat = Flat(net)
    for _ in range(5):
        # Of rank one, so that most directions of the bases have no gradient.
        found = [np.outer(rng.normal(size=r), rng.normal(size=c + 1)).ravel() for r, c in net.shapes]
        gradient = torch.from_numpy(np.concatenate(found).astype(np.float32)).to(device)
        parameters = torch.zeros_like(gradient)
        optimiser = DeviceSoap(flat, torch.device(device))
        optimiser.begin(1e-3)
        optimiser.observe(gradient)
        optimiser.renew()
        optimiser.move(gradient, parameters)
        assert float(parameters.norm()) < 1e-3 * 2 * math.sqrt(flat.size)


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_draws_what_numpy_draws(device: str) -> None:
    values = waves((7, 8, 9))
    mask = values > 1
    field = Field(values, mask=mask)
    importance = np.abs(waves((7, 8, 9), seed=1)) + 0.5
    batches = Batches(field, Net(4, 2), 0.5, 2.0, 50, 0, importance)
    theirs = DeviceBatches(batches, torch.device(device), 0)
    drawn = np.concatenate([theirs.indices().cpu().numpy() for _ in range(2 * batches.count // 50 + 1)])
    counts = np.bincount(drawn, minlength=values.size)
    assert not counts[mask.ravel()].any()
    assert set(counts[~mask.ravel()]) <= {2, 3}
    # Some masked ones too: their weights are 0, and so are those of gradients beside them.
    index = np.random.default_rng(0).integers(0, values.size, 60)
    at = torch.from_numpy(index).to(device)
    points, targets, weights = batches.at(index)
    np.testing.assert_array_equal(theirs.values(at).cpu().numpy()[:, 0], targets[0])
    np.testing.assert_allclose(theirs.shares(at).cpu().numpy()[:, 0], weights[0], rtol=1e-5)
    np.testing.assert_array_equal(theirs.places.points(at, 3).cpu().numpy(), points[:3].T)
    for found, expected in zip(theirs.slopes(at), batches.slopes(index), strict=True):
        np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-4, atol=1e-6)
    state = theirs.state()
    following = theirs.indices()
    again = DeviceBatches(batches, torch.device(device), 9)
    again.restore(state)
    assert torch.equal(again.indices(), following)


@backends
@pytest.mark.parametrize("rounding", [False, True])
def test_a_run_takes_the_steps_of_the_cpu(backend: str, device: str, rounding: bool) -> None:
    field = Field(waves((8, 9, 10)))
    settings = Siren(batch=64, layers=2, width=6)
    record = SirenRecord(6, 2, 20.0)
    ours = Trainer(field, record, settings, CONTEXT)
    theirs = Trainer(field, record, settings, replace(CONTEXT, device=device, backend=backend))
    if rounding:
        ours.sense()
        theirs.sense()
        assert theirs.step == pytest.approx(ours.step, rel=1e-3)
        theirs.codes, theirs.step, theirs.unit = ours.codes, ours.step, ours.unit = ours.codes, 0.05, ours.unit
    a = Course(ours, 100, 400, Checkpoint(None, ""))
    b = DeviceCourse(theirs, 100, 400, Checkpoint(None, ""))
    for _ in range(25):
        a._advance(rounding, 1e-3)
    # From here on both draw the same, from the same state: eigenvectors of the first steps are not unique.
    for p, q in zip(theirs.parameters, ours.parameters, strict=True):
        p[...] = q
    b.running = a.running
    b._push()
    b.soap.restore(a.optimiser.state())
    b.device_batches.indices = lambda: torch.from_numpy(drawn)  # type: ignore[method-assign]
    ours.batches.indices = lambda: drawn  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    for _ in range(11):
        drawn = rng.integers(0, field.voxels, 64)
        a._advance(rounding, 1e-3)
        b._advance(rounding, 1e-3)
    b._fetch()
    b._listen()
    assert b.running == pytest.approx(a.running, rel=2e-3)
    for p, q in zip(theirs.parameters, ours.parameters, strict=True):
        np.testing.assert_allclose(p, q, atol=5e-4)


@backends
def test_files_of_a_device_are_as_good_and_decode_everywhere(backend: str, device: str) -> None:
    field = Field(waves((8, 9, 10)), mask=waves((8, 9, 10)) > 1.5)
    context = replace(CONTEXT, device=device, backend=backend)
    encoded = QUICK.fit(field, Bytes(300), context)
    assert encoded.nbytes <= 300
    spec = ArraySpec(field.values.shape, field.values.dtype)
    whole = Siren.decode(encoded, spec, full_region(spec.shape), 0, CONTEXT)
    here = Siren.decode(encoded, spec, full_region(spec.shape), 0, context)
    assert np.abs(here - whole).max() < Siren.margin(encoded)
    assert measured(Siren, encoded, field, context).psnr > 12
    region = (slice(1, 7), slice(0, 9), slice(3, 10))
    part = Siren.decode(encoded, spec, region, 1, context)
    np.testing.assert_allclose(part, here[region][::2, ::2, ::2], atol=Siren.margin(encoded))


@backends
def test_a_stopped_run_goes_on_where_it_was(backend: str, device: str, tmp_path: Path) -> None:
    field, settings = Field(waves((8, 9, 10))), Siren(steps=20, batch=100, layers=2, width=5)

    def stop(done: float, text: str) -> None:
        if text.startswith("step 10/"):
            progress.cancel()

    context = replace(CONTEXT, device=device, backend=backend)
    whole = settings.fit(field, Bytes(400), context)
    progress = Progress(stop)
    kept = replace(context, checkpoint=tmp_path / "kept")
    with pytest.raises(Cancelled):
        settings.fit(field, Bytes(400), replace(kept, progress=progress))
    texts: list[str] = []
    again = settings.fit(field, Bytes(400), replace(kept, progress=Progress(lambda d, t: texts.append(t))))
    assert again == whole
    assert texts[0].startswith("step 20/")
    # A finished training is taken as it is.
    assert settings.fit(field, Bytes(400), kept) == whole


def test_a_run_that_runs_away_goes_back() -> None:
    trainer = Trainer(Field(waves((8, 9, 10))), SirenRecord(6, 2), QUICK, replace(CONTEXT, backend="torch"))
    course = DeviceCourse(trainer, 1000, 400, Checkpoint(None, ""))
    for _ in range(50):
        course.forward()
    best = course.parameters.clone()
    course.parameters += 1
    for _ in range(50):
        course.forward()
    assert torch.equal(course.parameters, best)
    assert course.slowed == 0.5
    assert course.soap.count == 0
    assert course.running == pytest.approx(course.least)


def test_the_gradient_term_is_that_of_the_cpu() -> None:
    net = Net(6, 3, 3, 2)
    case = Case(net, TorchEngine, "cpu", n=40)
    engine = TorchEngine(net, torch.device("cpu"))
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=(40, 2, 3)).astype(np.float32)
    weights = rng.random((40, 2)).astype(np.float32)
    points = case.points[case.index].float()
    padded = np.zeros((4, 40), np.float32)
    padded[:3] = points.numpy().T
    targets, shares = np.zeros((4, 40), np.float32), np.zeros((4, 40), np.float32)
    targets[:2], shares[:2] = case.values.numpy().T, case.shares.numpy().T
    loss, expected = TorchLoss(net, 0.3)(case.parameters, padded, targets, shares, slopes, weights)
    found_loss, found = engine.gradients_with_slopes(
        engine.tensor(case.parameters), points, case.values, case.shares, torch.from_numpy(slopes),
        torch.from_numpy(0.3 * weights),
    )  # fmt: skip
    assert float(found_loss) == pytest.approx(loss, rel=1e-5)
    assert relative(found, torch.from_numpy(Flat(net).join(expected)).double()) < 1e-5
    encoded = replace(QUICK, grad_lambda=0.01).fit(
        Field(waves((8, 9, 10))), Bytes(400), replace(CONTEXT, backend="torch")
    )
    assert encoded.nbytes <= 400


# ------------------------------------------------------------------------------------------------------------- choosing


def test_what_a_backend_cannot_do_is_refused_or_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_for("numba", "cpu", Net(8)) is None
    assert engine_for("auto", "cpu", Net(8)) is None
    assert isinstance(engine_for("torch", "cpu", Net(300)), TorchEngine)
    if not torch.cuda.is_available():
        assert isinstance(engine_for("triton", "cpu", Net(128)), TritonEngine)
        with pytest.raises(
            InputError, match=r"backend triton: .* at most 128 neurons per layer, this one has 129; choose"
        ):
            engine_for("triton", "cpu", Net(129))
        with pytest.raises(InputError, match="gradient term"):
            engine_for("triton", "cpu", Net(8), gradient_term=True)
    found = SimpleNamespace(name="triton")
    monkeypatch.setattr("neurcomp_core.nets.backends.chosen", lambda name, device: found)
    assert isinstance(engine_for("auto", "cpu", Net(129)), TorchEngine)
    assert isinstance(engine_for("auto", "cpu", Net(8), gradient_term=True), TorchEngine)
    found.name = "tinycudann"
    with pytest.raises(InputError, match="backend tinycudann: it has no residual sine networks"):
        engine_for("tinycudann", "cpu", Net(8))


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from neurcomp_core.nets import triton_siren as kernels

INTEGERS = {"n": "i64", "first": "i64", "length": "i32", "rows": "i32", "columns": "i32", "matrices": "i32",
            "outputs": "i32", "total": "i64", "indices": "*i64", "share": "fp32"}
FLAGS = {"INPUTS": 3, "WIDTH": 16, "RESIDUAL": True, "FROM_POINTS": False, "DRAWN": True, "SAVE": True, "GIVEN": False,
         "SHARED": True, "PRECISION": "tf32x3", "TILE": 32}
for kernel in (kernels.forward_kernel, kernels.backward_kernel):
    names = kernel.arg_names
    types = {n: "constexpr" if n in FLAGS else INTEGERS.get(n, "*fp32") for n in names}
    values = {(names.index(n),): FLAGS[n] for n in names if n in FLAGS}
    made = compile(ASTSource(fn=kernel, signature=types, constexprs=values), target=GPUTarget("cuda", 90, 32),
                   options={"num_warps": 4, "num_stages": 1})
    assert made.asm["cubin"] and made.metadata.shared < 227 * 1024
"""


def test_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    root = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    root["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=root)
    assert done.returncode == 0, done.stderr
