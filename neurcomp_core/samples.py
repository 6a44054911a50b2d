"""Sample data that the project computes itself: a turbulent flow and the Marschner-Lobb test signal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.progress import Progress

#: Smallest grid that holds the initial perturbation (wave numbers up to 3) without aliasing.
MIN_SIZE = 12
#: RK4 is stable to ``dt * k_max * sum |u_i| = 2.83``; on a dealiased grid that is this Courant number.
MAX_CFL = 1.35
_PERTURBED_BAND = 3
# A time step is never longer than this share of the large-eddy turnover time, which is 1.
_MAX_STEP = 0.1


@dataclass(frozen=True, eq=False)
class FlowStep:
    """One time of a simulated flow.

    Attributes
    ----------
    velocity : Field
        ``(z, y, x, 3)`` float32, components along x, y, z.
    vorticity_magnitude : Field
        ``(z, y, x)`` float32, ``|curl u|``.
    energy, enstrophy : float
        Volume means ``<u.u> / 2`` and ``<w.w> / 2``; ``dE/dt = -2 enstrophy / Re``.
    resolution : float
        ``k_max`` times the Kolmogorov length ``(nu^3 / eps)^(1/4)``. Above about 1 the smallest eddies are resolved;
        well below, the spectrum is cut off and energy piles up at the smallest scale.
    """

    velocity: Field
    vorticity_magnitude: Field
    energy: float
    enstrophy: float
    resolution: float


def taylor_green(
    size: int = 64,
    reynolds: float = 300.0,
    time: float = 8.0,
    *,
    perturbation: float = 0.1,
    seed: int = 0,
    cfl: float = 1.0,
    progress: Progress | None = None,
) -> FlowStep:
    """Taylor-Green vortex at one time; the arguments are those of `taylor_green_series`.

    Examples
    --------
    >>> step = taylor_green(size=16, reynolds=50, time=0.5)
    >>> step.velocity.values.shape, step.vorticity_magnitude.name
    ((16, 16, 16, 3), 'vorticity_magnitude')
    """
    return next(
        taylor_green_series(size, reynolds, [time], perturbation=perturbation, seed=seed, cfl=cfl, progress=progress)
    )


def taylor_green_series(
    size: int,
    reynolds: float,
    times: Iterable[float],
    *,
    perturbation: float = 0.1,
    seed: int = 0,
    cfl: float = 1.0,
    progress: Progress | None = None,
) -> Iterator[FlowStep]:
    """Direct numerical simulation of the Taylor-Green vortex, one `FlowStep` per time; memory holds one.

    Incompressible Navier-Stokes on the periodic cube ``[0, 2 pi]^3`` with ``nu = 1 / reynolds``, from
    ``u = (sin x cos y cos z, -cos x sin y cos z, 0)`` (Taylor & Green, Proc. R. Soc. A 158, 1937; Brachet et al.,
    J. Fluid Mech. 130, 1983, eq. 1.1). Fourier-Galerkin in space with the 2/3 rule (Orszag, J. Atmos. Sci. 28, 1971);
    the convective term in divergence form, whose stress tensor less its zz part takes 8 transforms a stage (Basdevant,
    J. Comput. Phys. 50, 1983); classical Runge-Kutta 4 in time, viscosity exact by an integrating factor. All in
    float64, results rounded to float32.

    Parameters
    ----------
    size : int
        Samples per axis, at least `MIN_SIZE`; products of small primes are fastest.
    reynolds : float
        Positive. ``size = reynolds^(3/4)`` resolves the smallest eddies at all times (see `FlowStep.resolution`): about
        250 on 64 samples, 440 on 96, 650 on 128.
    times : iterable of float
        Rising, from 0 on. The flow turns turbulent at about 5 and dissipates most at about 9.
    perturbation : float
        RMS of a random solenoidal velocity (wave numbers 1 to 3) added at time 0, relative to the vortex's own. It
        breaks the vortex's symmetry, without which one eighth of the cube determines the rest. 0 is the classical
        flow. The same seed gives the same perturbation at every `size`.
    seed : int
        Of the perturbation.
    cfl : float
        Courant number ``dt max(sum |u_i|) size / (2 pi)``, up to `MAX_CFL`.
    progress : Progress, optional

    Returns
    -------
    iterator of FlowStep

    Raises
    ------
    InputError
        If an argument is out of range, before anything is computed.
    """
    wanted = [float(t) for t in times]
    if not size >= MIN_SIZE or size % 1:
        raise InputError(f"size: expected a whole number of at least {MIN_SIZE} samples per axis, got {size}")
    if not 0 < reynolds < math.inf:
        raise InputError(f"reynolds: expected a positive finite number, got {reynolds}")
    if not 0 <= perturbation <= 1:
        raise InputError(f"perturbation: expected a share of the vortex's velocity from 0 to 1, got {perturbation}")
    if not 0 < cfl <= MAX_CFL:
        raise InputError(f"cfl: expected a number above 0 and up to {MAX_CFL}, got {cfl}")
    if not wanted or not all(0 <= t < math.inf for t in wanted) or wanted != sorted(wanted):
        raise InputError(f"times: expected one or more finite times from 0 on, in rising order, got {wanted}")
    return _simulate(int(size), 1 / reynolds, wanted, perturbation, seed, cfl, progress or Progress())


def _simulate(
    size: int,
    nu: float,
    times: Sequence[float],
    perturbation: float,
    seed: int,
    cfl: float,
    progress: Progress,
) -> Iterator[FlowStep]:
    modes = _Modes(size)
    spectrum = modes.vortex() + modes.noise(perturbation, seed)
    now, end = 0.0, times[-1]
    for target in times:
        while now < target:
            progress.update(now / end, f"Taylor-Green vortex, time {now:.2f} of {end:g}")
            slope, speed = modes.convection(spectrum)
            dt = min(cfl * modes.spacing / speed, _MAX_STEP)
            # Equal steps up to the output time: a last tiny step would cost as much as a full one.
            count = math.ceil((target - now) / dt)
            dt = (target - now) / count
            spectrum = modes.advance(spectrum, slope, dt, nu)
            now = target if count == 1 else now + dt
        progress.update(now / end if end else 1.0, f"Taylor-Green vortex, time {now:g} of {end:g}")
        yield modes.output(spectrum, now, nu)


class _Modes:
    """Fourier modes ``|k_i| <= k_max`` of a periodic cube, and the flow's equations on them.

    A spectrum is ``(kz, ky, kx)`` complex128 of shape ``(2 k_max + 1, 2 k_max + 1, k_max + 1)``: kx >= 0, the others
    in FFT order 0..k_max, -k_max..-1. Only retained modes are stored and transformed, so the 2/3 rule costs nothing
    and saves most of the spectral work.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.spacing = 2 * math.pi / size
        self.top = (size - 1) // 3
        signed = np.concatenate([np.arange(self.top + 1.0), np.arange(-self.top, 0.0)])
        self.kx, self.ky, self.kz = np.arange(self.top + 1.0), signed[:, None], signed[:, None, None]
        self.squared = self.kx**2 + self.ky**2 + self.kz**2
        self._inverse = 1 / np.where(self.squared == 0, 1, self.squared)
        # Modes of kx > 0 stand for their conjugates, too.
        self._weight = np.where(self.kx > 0, 2.0, 1.0)

    def sample(self, spectrum: np.ndarray) -> np.ndarray:
        """Values ``(z, y, x)`` of one spectrum on the grid."""
        columns = np.fft.ifft(self._pad(spectrum, 0), axis=0, norm="forward")
        planes = np.fft.ifft(self._pad(columns, 1), axis=1, norm="forward")
        return np.fft.irfft(planes, n=self.size, axis=2, norm="forward")

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Inverse of `sample`; modes above k_max are dropped."""
        rows = np.fft.rfft(values, axis=2, norm="forward")[:, :, : self.top + 1]
        planes = self._crop(np.fft.fft(rows, axis=1, norm="forward"), 1)
        return self._crop(np.fft.fft(planes, axis=0, norm="forward"), 0)

    def _pad(self, a: np.ndarray, axis: int) -> np.ndarray:
        shape = list(a.shape)
        shape[axis] = self.size - a.shape[axis]
        low, high = np.split(a, [self.top + 1], axis)
        return np.concatenate([low, np.zeros(shape, a.dtype), high], axis)

    def _crop(self, a: np.ndarray, axis: int) -> np.ndarray:
        low, _, high = np.split(a, [self.top + 1, self.size - self.top], axis)
        return np.concatenate([low, high], axis)

    def solenoidal(self, v: np.ndarray) -> np.ndarray:
        """Part of ``(3, kz, ky, kx)`` without divergence: ``v - k (k.v) / k^2``."""
        pressure = (self.kx * v[0] + self.ky * v[1] + self.kz * v[2]) * self._inverse
        return np.stack([v[0] - self.kx * pressure, v[1] - self.ky * pressure, v[2] - self.kz * pressure])

    def curl(self, v: np.ndarray) -> np.ndarray:
        kx, ky, kz = self.kx, self.ky, self.kz
        return 1j * np.stack([ky * v[2] - kz * v[1], kz * v[0] - kx * v[2], kx * v[1] - ky * v[0]])

    def mean_square(self, v: np.ndarray) -> float:
        """``<v.v>`` over the cube, by Parseval."""
        return float(np.sum(self._weight * np.abs(v) ** 2))

    def vortex(self) -> np.ndarray:
        x = np.arange(self.size) * self.spacing
        z, y = x[:, None, None], x[:, None]
        u, v = np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z)
        return np.stack([self.transform(a) for a in (u, v, np.zeros_like(u))])

    def noise(self, strength: float, seed: int) -> np.ndarray:
        """Random solenoidal velocity of ``1 <= |k| <= 3`` with `strength` times the vortex's RMS."""
        coarse = _Modes(MIN_SIZE)
        draw = np.random.default_rng(seed).standard_normal((3,) + 3 * (MIN_SIZE,))
        small = coarse.solenoidal(np.stack([coarse.transform(a) for a in draw]))
        small *= (coarse.squared > 0) & (coarse.squared <= _PERTURBED_BAND**2)
        vortex_rms = 0.5
        small *= strength * vortex_rms / math.sqrt(coarse.mean_square(small))
        out = np.zeros((3, *self.squared.shape), complex)
        band = np.r_[0 : _PERTURBED_BAND + 1, -_PERTURBED_BAND:0]
        out[:, band[:, None], band, : _PERTURBED_BAND + 1] = small
        return out

    def convection(self, spectrum: np.ndarray) -> tuple[np.ndarray, float]:
        """``-div(u u) - grad p`` and ``max(|u| + |v| + |w|)``."""
        u, v, w = map(self.sample, spectrum)
        speed = float((np.abs(u) + np.abs(v) + np.abs(w)).max())
        square = w * w
        # Taking w^2 off the diagonal changes the pressure only, and saves the sixth transform.
        stress = (u * u - square, v * v - square, u * v, u * w, v * w)
        xx, yy, xy, xz, yz = map(self.transform, stress)
        kx, ky, kz = self.kx, self.ky, self.kz
        force = np.stack([kx * xx + ky * xy + kz * xz, kx * xy + ky * yy + kz * yz, kx * xz + ky * yz])
        force *= -1j
        return self.solenoidal(force), speed

    def advance(self, spectrum: np.ndarray, slope: np.ndarray, dt: float, nu: float) -> np.ndarray:
        """One Runge-Kutta 4 step of ``exp(nu k^2 t) u``; `slope` is the convection at its start."""
        half = np.exp(-nu * self.squared * (dt / 2))
        start = half * spectrum
        first = half * slope
        second, _ = self.convection(start + dt / 2 * first)
        third, _ = self.convection(start + dt / 2 * second)
        start *= half
        middle = half * third
        fourth, _ = self.convection(start + dt * middle)
        return start + dt / 6 * (half * first + 2 * (half * second + middle) + fourth)

    def output(self, spectrum: np.ndarray, time: float, nu: float) -> FlowStep:
        vorticity = self.curl(spectrum)
        velocity = np.stack([a.astype(np.float32) for a in map(self.sample, spectrum)], axis=-1)
        magnitude = np.sqrt(sum(a * a for a in map(self.sample, vorticity))).astype(np.float32)
        last = self.size - 1
        grid = UniformGrid((0, last, 0, last, 0, last), spacing=3 * (self.spacing,))
        enstrophy = self.mean_square(vorticity) / 2
        kolmogorov = (nu**2 / (2 * enstrophy)) ** 0.25
        return FlowStep(
            Field(velocity, grid, "velocity", time=time),
            Field(magnitude, grid, "vorticity_magnitude", time=time),
            self.mean_square(spectrum) / 2,
            enstrophy,
            self.top * kolmogorov,
        )


def marschner_lobb(size: int = 64, fm: float = 6.0, alpha: float = 0.25) -> Field:
    """Marschner-Lobb test signal on ``[-1, 1]^3`` (Marschner & Lobb, IEEE Visualization 1994, section 4, eq. 3).

    ``(1 - sin(pi z / 2) + alpha (1 + rho(sqrt(x^2 + y^2)))) / (2 (1 + alpha))`` with
    ``rho(r) = cos(2 pi fm cos(pi r / 2))``: rings whose frequency rises to the edge of what 40 samples hold.

    Parameters
    ----------
    size : int
        Samples per axis, ends included.
    fm : float
        Frequency of the rings.
    alpha : float
        Their share.

    Returns
    -------
    Field
        ``(size, size, size)`` float32 in [0, 1], named ``marschner_lobb``.

    Raises
    ------
    InputError
        If `size` is below 2, `fm` negative or `alpha` not positive.
    """
    if not size >= 2 or size % 1:
        raise InputError(f"size: expected a whole number of at least 2 samples per axis, got {size}")
    if not 0 <= fm < math.inf:
        raise InputError(f"fm: expected a finite frequency from 0 on, got {fm}")
    if not 0 < alpha < math.inf:
        raise InputError(f"alpha: expected a positive finite number, got {alpha}")
    size = int(size)
    x = np.linspace(-1.0, 1.0, size)
    rings = np.cos(2 * np.pi * fm * np.cos(np.pi / 2 * np.hypot(x[:, None], x)))
    values = (1 - np.sin(np.pi / 2 * x)[:, None, None] + alpha * (1 + rings)) / (2 * (1 + alpha))
    last, step = size - 1, 2 / (size - 1)
    grid = UniformGrid((0, last, 0, last, 0, last), origin=(-1.0, -1.0, -1.0), spacing=(step, step, step))
    return Field(values.astype(np.float32), grid, "marschner_lobb")
