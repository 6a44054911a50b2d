"""The sample data obeys the equations it claims to solve."""

from itertools import pairwise

import numpy as np
import pytest

from neurcomp_core.errors import Cancelled, InputError
from neurcomp_core.field import UniformGrid
from neurcomp_core.progress import Progress
from neurcomp_core.samples import marschner_lobb, taylor_green, taylor_green_series


def grid(size):
    x = np.arange(size) * 2 * np.pi / size
    return x, x[:, None], x[:, None, None]


def wave_numbers(size):
    k = np.fft.fftfreq(size, 1 / size)
    return k, k[:, None], k[:, None, None]


@pytest.fixture(scope="module")
def flow():
    """Two neighbouring pairs of times of a resolved turbulent flow, 0.02 apart."""
    return list(taylor_green_series(32, 100, [1.99, 2.01, 4.99, 5.01]))


def test_initial_condition_is_taylor_and_greens():
    step = taylor_green(size=16, reynolds=100, time=0, perturbation=0)
    x, y, z = grid(16)
    u = np.sin(x) * np.cos(y) * np.cos(z)
    v = -np.cos(x) * np.sin(y) * np.cos(z)
    np.testing.assert_allclose(step.velocity.values, np.stack([u, v, 0 * u], -1), atol=1e-7)
    wx = -np.cos(x) * np.sin(y) * np.sin(z)
    wy = -np.sin(x) * np.cos(y) * np.sin(z)
    wz = 2 * np.sin(x) * np.sin(y) * np.cos(z)
    np.testing.assert_allclose(step.vorticity_magnitude.values, np.sqrt(wx**2 + wy**2 + wz**2), atol=1e-6)
    assert step.energy == pytest.approx(1 / 8)
    assert step.enstrophy == pytest.approx(3 / 8)


def test_early_times_follow_the_analytic_acceleration():
    # From the pressure (cos 2x + cos 2y)(cos 2z + 2) / 16 of the initial flow.
    reynolds, t = 50.0, 1e-3
    x, y, z = grid(24)
    moved = taylor_green(24, reynolds, t, perturbation=0).velocity.values.astype(float)
    u0 = np.sin(x) * np.cos(y) * np.cos(z)
    v0 = -np.cos(x) * np.sin(y) * np.cos(z)
    du = -np.sin(2 * x) * np.cos(2 * z) / 8 - 3 / reynolds * u0 + 0 * y
    dv = -np.sin(2 * y) * np.cos(2 * z) / 8 - 3 / reynolds * v0 + 0 * x
    dw = (np.cos(2 * x) + np.cos(2 * y)) * np.sin(2 * z) / 8
    change = (moved - np.stack([u0, v0, 0 * u0], -1)) / t
    np.testing.assert_allclose(change, np.stack([du, dv, dw], -1), atol=1e-3)


def test_viscous_limit_decays_exponentially():
    # Nearly without inertia each mode of |k|^2 = 3 decays as exp(-3 nu t), however long the step is.
    step = taylor_green(16, reynolds=0.01, time=0.01, perturbation=0)
    assert step.energy == pytest.approx(np.exp(-6.0) / 8, rel=1e-4)


def test_velocity_has_no_divergence(flow):
    kx, ky, kz = wave_numbers(32)
    for step in flow:
        u, v, w = (np.fft.fftn(step.velocity.values[..., c].astype(float)) / 32**3 for c in range(3))
        divergence = np.abs(kx * u + ky * v + kz * w).max()
        assert divergence < 1e-6
        assert np.abs(u).max() > 1e-2


def test_vorticity_is_the_curl_of_the_velocity(flow):
    step = flow[-1]
    kx, ky, kz = wave_numbers(32)
    u, v, w = (np.fft.fftn(step.velocity.values[..., c].astype(float)) for c in range(3))
    curl = [np.fft.ifftn(1j * c).real for c in (ky * w - kz * v, kz * u - kx * w, kx * v - ky * u)]
    np.testing.assert_allclose(step.vorticity_magnitude.values, np.sqrt(sum(c * c for c in curl)), atol=1e-4)
    assert step.enstrophy == pytest.approx(np.mean(step.vorticity_magnitude.values.astype(float) ** 2) / 2, rel=1e-5)
    assert step.energy == pytest.approx(np.mean(np.sum(step.velocity.values.astype(float) ** 2, -1)) / 2, rel=1e-5)


def test_energy_is_lost_to_viscosity_alone(flow):
    for before, after in (flow[:2], flow[2:]):
        rate = (after.energy - before.energy) / 0.02
        assert rate == pytest.approx(-(before.enstrophy + after.enstrophy) / 100, rel=1e-3)


def test_energy_falls_and_turbulence_grows():
    steps = list(taylor_green_series(24, 100, np.arange(0, 5.5, 0.5)))
    energy = [s.energy for s in steps]
    assert all(b < a for a, b in pairwise(energy))
    # Vortex stretching: in two dimensions the enstrophy could only fall.
    assert max(s.enstrophy for s in steps) > 1.5 * steps[0].enstrophy
    assert steps[0].resolution > steps[-1].resolution > 0.5


def test_without_viscosity_energy_stays():
    start, end = taylor_green_series(24, 1e12, [0, 3])
    assert end.energy == pytest.approx(start.energy, rel=1e-5)
    assert end.enstrophy > 1.5 * start.enstrophy


def test_result_does_not_depend_on_the_resolution():
    coarse = taylor_green(20, 10, 2.0, perturbation=0.3, seed=4)
    fine = taylor_green(40, 10, 2.0, perturbation=0.3, seed=4)
    np.testing.assert_allclose(coarse.velocity.values, fine.velocity.values[::2, ::2, ::2], atol=2e-3)


def test_time_step_is_converged():
    a, b = (taylor_green(24, 100, 2.0, cfl=c).velocity.values for c in (1.35, 0.15))
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_unperturbed_flow_keeps_its_symmetry_and_the_perturbed_does_not():
    # A half turn about the z axis maps (u, v, w)(x, y, z) onto (-u, -v, w)(-x, -y, z).
    for perturbation, symmetric in ((0.0, True), (0.1, False)):
        u = taylor_green(16, 100, 1.0, perturbation=perturbation).velocity.values[..., 0]
        turned = -np.roll(u[:, ::-1, ::-1], 1, (1, 2))
        assert np.allclose(u, turned, atol=1e-5) == symmetric


def test_perturbation_has_the_stated_strength():
    plain, disturbed = (taylor_green(16, 1, 0, perturbation=p, seed=1).velocity.values for p in (0, 0.2))
    rms = np.sqrt(np.mean(np.sum((disturbed.astype(float) - plain) ** 2, -1)))
    assert rms == pytest.approx(0.2 * 0.5, rel=1e-5)


def test_same_seed_same_bytes():
    a, b, c = (taylor_green(16, 100, 0.5, seed=s).velocity.values for s in (3, 3, 4))
    assert a.tobytes() == b.tobytes()
    assert a.tobytes() != c.tobytes()


def test_fields_say_what_they_are():
    steps = list(taylor_green_series(17, 100, (0.0, 0.25, 0.25, 0.5)))
    assert [s.velocity.time for s in steps] == [0, 0.25, 0.25, 0.5]
    velocity, vorticity = steps[-1].velocity, steps[-1].vorticity_magnitude
    assert (velocity.name, velocity.values.shape, velocity.values.dtype) == ("velocity", (17, 17, 17, 3), np.float32)
    assert (vorticity.name, vorticity.values.shape) == ("vorticity_magnitude", (17, 17, 17))
    assert velocity.geometry == vorticity.geometry
    assert isinstance(velocity.geometry, UniformGrid)
    assert velocity.geometry.spacing == pytest.approx(3 * (2 * np.pi / 17,))
    assert velocity.values.flags.c_contiguous


def test_progress_rises_to_one_and_can_stop_the_run():
    seen = []
    taylor_green(16, 100, 0.5, progress=Progress(lambda fraction, text: seen.append(fraction)))
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] == 1
    assert len(seen) > 3
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        taylor_green(16, 100, 0.5, progress=progress)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 11}, "size"),
        ({"size": 16.5}, "size"),
        ({"size": float("nan")}, "size"),
        ({"reynolds": 0}, "reynolds"),
        ({"reynolds": -5}, "reynolds"),
        ({"reynolds": float("nan")}, "reynolds"),
        ({"times": []}, "times"),
        ({"times": [-1]}, "times"),
        ({"times": [2, 1]}, "times"),
        ({"times": [float("inf")]}, "times"),
        ({"perturbation": -0.1}, "perturbation"),
        ({"cfl": 0}, "cfl"),
        ({"cfl": 2}, "cfl"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(arguments, message):
    with pytest.raises(InputError, match=f"^{message}: expected"):
        taylor_green_series(**{"size": 16, "reynolds": 100, "times": [1.0], **arguments})


def test_marschner_lobb_at_points():
    field = marschner_lobb(41)
    assert field.values.dtype == np.float32
    assert isinstance(field.geometry, UniformGrid)
    assert field.geometry.origin == (-1, -1, -1)
    assert field.geometry.spacing == pytest.approx((0.05, 0.05, 0.05))
    for i, j, k in ((0, 0, 0), (40, 40, 40), (20, 20, 20), (13, 7, 30)):
        x, y, z = (-1 + 0.05 * n for n in (i, j, k))
        rho = np.cos(2 * np.pi * 6 * np.cos(np.pi * np.sqrt(x * x + y * y) / 2))
        expected = ((1 - np.sin(np.pi * z / 2)) + 0.25 * (1 + rho)) / (2 * (1 + 0.25))
        assert field.values[k, j, i] == pytest.approx(expected, abs=1e-6)
    assert field.values.min() >= 0
    assert field.values.max() <= 1


def test_marschner_lobb_parameters():
    flat = marschner_lobb(9, fm=0, alpha=1.0).values
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1, :1], flat.shape), atol=1e-7)
    assert flat[4, 4, 4] == pytest.approx(3 / 4)
    for arguments in ({"size": 1}, {"alpha": 0}, {"fm": -1}):
        with pytest.raises(InputError, match="expected"):
            marschner_lobb(**arguments)
