"""The codec siren: its network, its training, and what a checkpoint promises."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurcomp_cli import options
from neurcomp_core.codec import Context, measured
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.codecs.siren import Siren, SirenRecord, network_of
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Cancelled, FormatError, InputError
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit import checkpoint as checkpoints
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.fit.siren import shape_for
from neurcomp_core.fit.siren_batches import Batches
from neurcomp_core.fit.siren_gradients import TorchLoss, differences, gradients_by
from neurcomp_core.fit.siren_optimiser import Soap
from neurcomp_core.fit.siren_trainer import Trainer, initial_parameters
from neurcomp_core.nets import siren_kernels as kernels
from neurcomp_core.nets import siren_model as model
from neurcomp_core.nets.model import steps_of
from neurcomp_core.nets.siren import Siren as Net
from neurcomp_core.nets.siren import axis_coordinates, axis_scales, forward, forward_torch, lattice_points, paper_width
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.target import Bytes, MaxError, Psnr

CONTEXT = Context(device="cpu", threads=1)
QUICK = Siren(steps=60, batch=512)
NETS = [Net(5, 3), Net(6, 1, inputs=1), Net(4, 4, inputs=2, outputs=3, omega=12), Net(7, 3, residual=False)]
nets = pytest.mark.parametrize("net", NETS, ids=str)


def waves(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A smooth signal of a few waves, float32."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    found = sum(np.sin(place @ rng.uniform(0.05, 0.4, 3) + rng.uniform(0, 6)) for _ in range(4))
    return np.asarray(found, np.float32)


def parameters_of(net: Net, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [p + rng.normal(0, 0.01, p.shape).astype(np.float32) for p in initial_parameters(net, rng)]


# ------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    ("count", "layers", "inputs", "width"),
    [
        # 8 layers: (3 + 1) w + 14 (w + 1) w + w + 1 parameters; these are the published runs of 91^3 / 50, 100^3 / 200.
        (91**3 / 50, 8, 3, 32), (100**3 / 200, 8, 3, 18), (14945, 8, 3, 32), (14944, 8, 3, 31),
        # 3 layers, 2 inputs: 3 w + 4 (w + 1) w + w + 1.
        (4 * 20 * 21 + 81, 3, 2, 20), (4 * 20 * 21 + 80, 3, 2, 19), (10, 8, 3, 16),
    ],
)  # fmt: skip
def test_the_width_rule_is_the_papers(count: float, layers: int, inputs: int, width: int) -> None:
    assert paper_width(count, layers, inputs) == width


def test_a_parameter_ratio_gives_the_papers_network() -> None:
    field = Field(np.zeros((91, 91, 91), np.float32))
    record = shape_for(field, 31145, Siren(parameter_ratio=50))
    net = network_of(record, ArraySpec(field.values.shape, field.values.dtype))
    assert (net.width, net.layers, net.omega, net.residual) == (32, 8, 30, True)
    assert net.parameters == 14945
    assert net.names[:3] == ["first", "block1.1", "block1.2"]
    assert len(net.names) == len(net.shapes) == 16
    assert net.halves(1) == (1, 1)
    assert net.halves(3) == (0.5, 1)
    assert net.halves(7) == (0.5, 0.5)


def test_coordinates_keep_the_proportions_of_the_lattice() -> None:
    np.testing.assert_allclose(axis_scales((11, 21, 6)), [0.5, 1, 0.25])
    z, y, x = axis_coordinates((11, 21, 1))
    np.testing.assert_allclose(z, np.linspace(-0.5, 0.5, 11), atol=1e-7)
    np.testing.assert_allclose(y, np.linspace(-1, 1, 21), atol=1e-7)
    assert x.tolist() == [0]
    points = lattice_points(axis_coordinates((2, 3, 2)))
    assert points[:3].tolist() == [[-0.5, -1, -0.5], [-0.5, -1, 0.5], [-0.5, 0, -0.5]]


@nets
def test_all_forward_paths_agree(net: Net) -> None:
    torch = pytest.importorskip("torch")
    parameters = parameters_of(net)
    points = np.random.default_rng(1).uniform(-1, 1, (300, net.inputs))
    exact = forward(net, [p.astype(np.float64) for p in parameters], points)
    tensors = [torch.from_numpy(p).double() for p in parameters]
    np.testing.assert_allclose(forward_torch(net, tensors, torch.from_numpy(points)).numpy(), exact, atol=1e-12)
    short = points.astype(np.float32)
    np.testing.assert_allclose(forward(net, parameters, short), exact, atol=2e-5)
    out = np.empty((net.outputs, len(points)), np.float32)
    kernels.values(model.points_of(net, list(short.T)), *model.fold(net, parameters).args, out, 1)
    np.testing.assert_allclose(out.T, exact, atol=2e-5)


@nets
def test_the_kernels_gradients_are_those_of_torch(net: Net) -> None:
    pytest.importorskip("torch")
    parameters = parameters_of(net)
    rng = np.random.default_rng(2)
    points = model.points_of(net, list(rng.uniform(-1, 1, (net.inputs, 333)).astype(np.float32)))
    targets, weights = np.zeros((2, model.padded(net.outputs), 333), np.float32)
    targets[: net.outputs] = rng.normal(size=(net.outputs, 333))
    weights[: net.outputs] = rng.uniform(0, 0.01, (net.outputs, 333))
    loss, found = gradients_by(net, parameters, points, targets, weights, 2)
    expected_loss, expected = TorchLoss(net, 0.0)(parameters, points, targets, weights)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * max(float(np.abs(wanted).max()), 1e-3))


def test_sines_are_exact_far_from_zero() -> None:
    net = Net(1, 1, inputs=1, omega=1.0)
    parameters = [np.ones((1, 1), np.float32), np.zeros(1, np.float32), np.ones((1, 1), np.float32),
                  np.zeros(1, np.float32)]  # fmt: skip
    x = np.linspace(-500, 500, 10001).astype(np.float32)
    out = np.empty((1, len(x)), np.float32)
    kernels.values(model.points_of(net, [x]), *model.fold(net, parameters).args, out, 1)
    np.testing.assert_allclose(out[0], np.sin(x.astype(np.float64)), atol=1e-6)


def test_the_gradient_term_is_that_of_the_fields_differences() -> None:
    pytest.importorskip("torch")
    shape = (6, 9, 5)
    field = waves(shape)
    flat = field.reshape(-1, 1)
    everything = np.arange(flat.size)
    slopes = differences(flat, shape, [0, 1, 2], everything).reshape(*shape, 3)
    # Neighbours are equally far apart along all axes: the longest has 8 steps from -1 to 1.
    for axis in range(3):
        np.testing.assert_allclose(slopes[..., axis], np.gradient(field, 2 / 8, axis=axis), rtol=1e-4, atol=1e-5)
    net = Net(5, 3)
    parameters = parameters_of(net)
    points = model.points_of(net, list(lattice_points(axis_coordinates(shape)).T))
    targets, weights = np.zeros((2, model.padded(1), flat.size), np.float32)
    weights[0] = slope_weight = np.full(flat.size, 1 / flat.size)
    slopes = slopes.reshape(-1, 1, 3)
    term = TorchLoss(net, 0.5)

    def loss(parameters: list[np.ndarray]) -> float:
        """Squared error, and half of that of the slopes by differences of the network itself."""
        wide = [p.astype(np.float64) for p in parameters]
        at = points[:3].T.astype(np.float64)
        off = [(forward(net, wide, at + h) - forward(net, wide, at - h)) / 2e-5 for h in 1e-5 * np.eye(3)]
        missed = np.concatenate(off, axis=1) - slopes[:, 0]
        return float((forward(net, wide, at) ** 2).mean() + 0.5 * (missed**2).mean())

    _, gradients = term(parameters, points, targets, weights, slopes, slope_weight[:, None].astype(np.float32))
    for index in (0, 2, 5, len(parameters) - 2):
        moved = [[p.astype(np.float64) for p in parameters] for _ in range(2)]
        moved[0][index].flat[0] += 1e-5
        moved[1][index].flat[0] -= 1e-5
        slope = (loss(moved[0]) - loss(moved[1])) / 2e-5
        assert gradients[index].flat[0] == pytest.approx(
            slope, rel=2e-3, abs=2e-3 * float(np.abs(gradients[index]).max())
        )


# -------------------------------------------------------------------------------------------------------------- stream


@nets
def test_streams_hold_what_was_packed(net: Net) -> None:
    parameters = parameters_of(net)
    steps = np.full(len(parameters), 1e-4)
    found = model.unpack(net, model.pack(net, parameters, steps), steps)
    for got, wanted in zip(found, parameters, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=5.1e-5)
    for got, wanted in zip(model.unpack_floats(net, model.pack_floats(parameters)), parameters, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_senseless_records_are_refused() -> None:
    field = Field(waves((8, 9, 10)))
    spec = ArraySpec(field.values.shape, field.values.dtype)
    encoded = QUICK.fit(field, Bytes(300), CONTEXT)
    record = wire.unpack(SirenRecord, encoded.params)
    for change in ({"width": 0}, {"width": 900}, {"layers": 65}, {"omega": float("nan")}, {"margin": 1},
                   {"margin": 60}, {"step": -1.0}, {"codes": b"\1"}, {"codes": b""}):  # fmt: skip
        damaged = replace(encoded, params=wire.pack(replace(record, **change)))
        with pytest.raises(FormatError):
            Siren.decode(damaged, spec, full_region(spec.shape), 0, CONTEXT)


def test_parameters_may_be_stored_as_they_are() -> None:
    spec = ArraySpec((5, 6, 1), np.dtype(np.float32))
    net = network_of(SirenRecord(4, 2), spec)
    parameters = parameters_of(net)
    encoded = QUICK.fit(Field(waves((5, 6, 1))), Bytes(300), CONTEXT)
    encoded = replace(
        encoded, params=wire.pack(SirenRecord(4, 2, scale=3.0)), sections=(model.pack_floats(parameters),)
    )
    decoded = Siren.decode(encoded, spec, full_region(spec.shape), 0, CONTEXT)
    points = lattice_points(axis_coordinates(spec.shape))[:, :2]
    np.testing.assert_allclose(decoded.ravel(), 3 * forward(net, parameters, points)[:, 0], atol=1e-4)


def test_unruly_networks_say_how_far_decoders_may_differ() -> None:
    field = Field(waves((8, 9, 10)))
    margins = []
    for factor in (1, 40):
        trainer = Trainer(field, SirenRecord(8, 4), QUICK, CONTEXT)
        for p in trainer.parameters:
            p *= factor
        encoded = trainer.at_budget(3000).encoded
        record = wire.unpack(SirenRecord, encoded.params)
        spec = ArraySpec(field.values.shape, field.values.dtype)
        net = network_of(record, spec)
        parameters = model.unpack(net, encoded.sections[0], steps_of(record.step, record.codes))
        exact = forward(
            net, [p.astype(float) for p in parameters], lattice_points(axis_coordinates(spec.shape)).astype(float)
        )
        seen = Siren.outputs(encoded, spec, full_region(spec.shape), 1, CONTEXT)
        exact = record.centre + record.scale * exact.astype(float)
        assert np.abs(seen.ravel() - exact[:, 0]).max() < Siren.margin(encoded)
        margins.append(record.margin)
    assert margins[0] == 14 > margins[1]


# ------------------------------------------------------------------------------------------------------------ training


def test_an_optimiser_follows_a_badly_scaled_valley() -> None:
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0] * np.geomspace(1, 0.03, 6)
    turned = turned @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    aim = rng.normal(size=(4, 6))
    parameters = [np.zeros((4, 6), np.float32), np.zeros(4, np.float32)]
    optimiser = Soap(parameters)
    for i in range(400):
        missed = (parameters[0] - aim) @ turned
        optimiser.step([(missed @ turned.T).astype(np.float32), parameters[1] - 1], 0.05 * (1 - i / 400))
    assert np.abs(parameters[0] - aim).max() < 0.2
    np.testing.assert_allclose(parameters[1], 1, atol=0.02)


def test_a_first_step_goes_nowhere_for_rounding_errors() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        # Of rank one, so that most directions of the bases have no gradient.
        together = np.outer(rng.normal(size=11), rng.normal(size=12)).astype(np.float32)
        parameters = [np.zeros((11, 11), np.float32), np.zeros(11, np.float32)]
        Soap(parameters).step([together[:, :-1], together[:, -1]], 1e-3)
        moved = math.hypot(*(float(np.linalg.norm(p)) for p in parameters))
        assert moved < 1e-3 * 2 * math.sqrt(together.size)


def test_a_pass_draws_every_sample_once_and_no_masked_one() -> None:
    values = waves((7, 8, 9))
    mask = values > 1
    field = Field(values, mask=mask)
    batches = Batches(field, Net(4, 2), 0.0, 1.0, 50, 0)
    drawn = np.concatenate([batches.indices() for _ in range(2 * batches.count // 50 + 1)])
    counts = np.bincount(drawn, minlength=values.size)
    assert not counts[mask.ravel()].any()
    assert set(counts[~mask.ravel()]) <= {2, 3}
    points, targets, weights = batches.at(drawn[:50])
    np.testing.assert_array_equal(targets[0], values.ravel()[drawn[:50]])
    assert weights.sum() == pytest.approx(1, rel=1e-6)
    places = np.stack(np.unravel_index(drawn[:50], values.shape))
    for axis, row in enumerate(points[:3]):
        np.testing.assert_array_equal(row, axis_coordinates(values.shape)[axis][places[axis]])


def test_a_grown_network_is_the_same_function() -> None:
    trainer = Trainer(Field(waves((8, 9, 10))), SirenRecord(5, 3), QUICK, CONTEXT)
    wider = trainer.grown(replace(trainer.record, width=8))
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    before, after = (forward(t.net, t.parameters, points) for t in (trainer, wider))
    assert wider.net.width == 8
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_quality_is_met_and_not_much_exceeded() -> None:
    result = compress(Field(waves((10, 11, 12))), Psnr(26), Siren(steps=150, batch=256), CONTEXT)
    assert 26 <= result.reports[0].quality.psnr < 30
    assert decompress(result.data, context=CONTEXT)[0].values.shape == (10, 11, 12)


def test_seeds_decide_the_bytes() -> None:
    field = Field(waves((10, 11, 12)))
    one, two, other = (compress(field, Bytes(500), QUICK, replace(CONTEXT, seed=s)).data for s in (0, 0, 1))
    assert one == two != other


def test_a_residual_keeps_a_bound() -> None:
    field = Field(waves((10, 11, 12)))
    encoded = replace(QUICK, residual=True).encode(field, MaxError(0.002), CONTEXT)
    assert len(encoded.sections) > 1
    assert measured(Siren, encoded, field, CONTEXT).max_error <= 0.002
    told = Siren.describe(encoded)
    assert told["network bytes"] + told["residual bytes"] > 0


def test_a_gradient_term_and_a_parameter_ratio_train() -> None:
    pytest.importorskip("torch")
    field = Field(waves((9, 10, 11)))
    encoded = replace(QUICK, grad_lambda=0.01, parameter_ratio=0.5, layers=2).fit(field, Bytes(900), CONTEXT)
    assert wire.unpack(SirenRecord, encoded.params).width == paper_width(990 / 0.5, 2)
    assert measured(Siren, encoded, field, CONTEXT).psnr > 15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width: expected 1 to 1024, got 0"),
        ({"width": 8, "parameter_ratio": 50}, "width and parameter_ratio both set"),
        ({"grad_lambda": -1}, "grad_lambda: expected 0"),
    ],
)
def test_senseless_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Siren(**settings)


# --------------------------------------------------------------------------------------------------------- checkpoints

RUN = """
import sys
from pathlib import Path
import numpy as np
from neurcomp_core.codec import Context
from neurcomp_core.codecs.siren import Siren
from neurcomp_core.field import Field
from neurcomp_core.fit import checkpoint
from neurcomp_core.pipeline import compress
from neurcomp_core.progress import Progress
from neurcomp_core.target import Bytes

checkpoint.EVERY = 0.05
source, kept, out = map(Path, sys.argv[1:])
say = Progress(lambda done, text: print(text, flush=True))
context = Context(device="cpu", threads=1, progress=say, checkpoint=kept)
out.write_bytes(compress(Field(np.load(source)), Bytes(700), Siren(steps=400, batch=256), context).data)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    source, kept, out = tmp_path / "in.npy", tmp_path / "kept", tmp_path / "out.nvc"
    field = waves((10, 11, 12))
    np.save(source, field)
    command = [sys.executable, "-c", RUN, str(source), str(kept), str(out)]
    root = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            # In the middle, where the network is rounded already.
            if line.startswith("step 300/"):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True, env=root, check=True)
    assert int(done.stdout.split("/")[0].split()[-1]) > 100
    whole = compress(Field(field), Bytes(700), Siren(steps=400, batch=256), CONTEXT)
    assert out.read_bytes() == whole.data


def test_a_stopped_search_finds_what_it_has_done(tmp_path: Path) -> None:
    # Three short trainings to find the split, and a long one.
    noise = np.random.default_rng(0).normal(0, 0.2, (10, 11, 12)).astype(np.float32)
    field, settings = Field(waves(noise.shape) + noise), replace(QUICK, steps=100, residual=True)
    texts: list[str] = []

    def note(done: float, text: str) -> None:
        texts.append(text.split(",")[0])
        if texts[-1] == "step 50/100":
            progress.cancel()

    progress = Progress(note)
    context = replace(CONTEXT, checkpoint=tmp_path / "kept")
    with pytest.raises(Cancelled):
        settings.encode(field, Psnr(30), replace(context, progress=progress))
    assert "step 10/10" in texts
    texts.clear()
    again = settings.encode(field, Psnr(30), replace(context, progress=Progress(note)))
    assert not {"step 10/10", "step 50/100"} & set(texts)
    assert again == settings.encode(field, Psnr(30), CONTEXT)


def test_hash_grids_go_on_where_they_were(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    field, settings = Field(waves((10, 11, 12))), HashGrid(steps=150, batch=512)
    whole = settings.fit(field, Bytes(700), CONTEXT)

    def stop(done: float, text: str) -> None:
        if text.startswith("step 100/"):
            progress.cancel()

    progress = Progress(stop)
    context = replace(CONTEXT, checkpoint=tmp_path / "kept")
    with pytest.raises(Cancelled):
        settings.fit(field, Bytes(700), replace(context, progress=progress))
    texts: list[str] = []
    assert settings.fit(field, Bytes(700), replace(context, progress=Progress(lambda d, t: texts.append(t)))) == whole
    assert texts[0].startswith("step 110/")


def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    field, path = Field(waves((8, 9, 10))), tmp_path / "kept"
    context = replace(CONTEXT, checkpoint=path, progress=Progress(time_limit=0.0))
    for _ in range(2):
        with pytest.raises(Exception, match="time limit"):
            QUICK.fit(field, Bytes(400), context)
    context = replace(context, progress=Progress())
    for other in (Field(waves((8, 9, 10), seed=1)), field):
        target = Bytes(500) if other is field else Bytes(400)
        with pytest.raises(InputError, match=r"of another run.*delete it to start anew"):
            QUICK.fit(other, target, context)
    assert QUICK.fit(field, Bytes(400), context).nbytes <= 400


def test_the_command_line_refuses_what_a_codec_does_not_have(tmp_path: Path) -> None:
    assert options.parameters_of(Siren, parameter_ratio=50.0, grad_lambda=None) == {"parameter_ratio": 50.0}
    with pytest.raises(InputError, match="--grad-lambda: expected --codec siren, got hashgrid"):
        options.parameters_of(HashGrid, grad_lambda=0.1)
    assert options.checkpoint_of(Siren, tmp_path / "kept") == (tmp_path / "kept").resolve()
    with pytest.raises(InputError, match=r"--checkpoint: expected --codec with a network \(.*siren.*got wavelet"):
        options.checkpoint_of(Wavelet, tmp_path / "kept")
    with pytest.raises(InputError, match="does not exist"):
        options.checkpoint_of(Siren, tmp_path / "no" / "kept")


@pytest.mark.parametrize("damage", ["cut", "text", "other archive", "empty"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    path, key = tmp_path / "kept", key_of("a")
    Checkpoint(path, key).finish(lambda: {"p": np.arange(9.0)})
    assert Checkpoint(path, key).finished
    if damage == "other archive":
        with open(path, "wb") as file:
            np.savez(file, a=np.arange(3))
    else:
        data = path.read_bytes()
        path.write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(InputError, match=r"no checkpoint that can be read.*delete it"):
        Checkpoint(path, key)


def test_states_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 1e9)
    path, key = tmp_path / "kept", key_of("a")
    Checkpoint(path, key).keep(lambda: {"p0": np.arange(3.0)})
    trainer = Trainer(Field(waves((8, 9, 10))), SirenRecord(5, 3), QUICK, CONTEXT)
    from neurcomp_core.fit.siren_course import Course

    with pytest.raises(InputError, match=r"does not fit this run.*delete it"):
        Course(trainer, 10, 400, Checkpoint(path, key))
