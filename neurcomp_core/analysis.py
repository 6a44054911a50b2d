"""What later analysis sees of an error: gradients and power spectra of a reconstruction against its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.metrics import valid_samples

# Samples per slab; float64 temporaries stay some tens of MB.
_CHUNK = 1 << 20
#: Powers below this share of the original's largest count as this share: no decibels of rounding noise.
POWER_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Radially averaged power.

    Attributes
    ----------
    frequency : ndarray
        Middles of the bins in cycles per sample, rising to 0.5.
    power : ndarray
        Mean of ``|F|^2`` over the modes of each bin.
    """

    frequency: np.ndarray
    power: np.ndarray


def gradient_error(
    original: np.ndarray,
    decoded: np.ndarray,
    mask: np.ndarray | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> float:
    """Error of the gradient: RMS of ``|grad b - grad a|`` over RMS of ``|grad a|``.

    Central differences, over the samples inside the volume whose stencils hold only valid samples. Axes of fewer than 3
    samples have no gradient. All components of a vector count together.

    Parameters
    ----------
    original, decoded : ndarray
        ``(z, y, x[, c])``.
    mask : ndarray of bool, optional
        True where a sample of the original is not data.
    spacing : sequence of 3 float
        Distance of samples along z, y, x.

    Returns
    -------
    float
        0 where nothing is wrong; infinite where only the original is flat; NaN if no stencil is valid.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    _check(original, decoded)
    shape = original.shape[:3]
    valid = valid_samples(original, mask)
    inner = tuple(1 if n >= 3 else 0 for n in shape)
    step = max(1, _CHUNK // max(1, original[0].size))
    wrong = right = 0.0
    count = 0
    for z in range(inner[0], shape[0] - inner[0], step):
        stop = min(z + step, shape[0] - inner[0])
        slab = slice(z - inner[0], stop + inner[0])
        a, b = original[slab].astype(np.float64), decoded[slab].astype(np.float64)
        ok = None if valid is None else valid[slab]
        if ok is not None:
            a, b = np.where(ok, a, 0.0), np.where(ok, b, 0.0)
        whole = np.ones(1, bool) if ok is None else _core(ok, inner).copy()
        error = reference = np.zeros(1)
        for axis in range(3):
            if not inner[axis]:
                continue
            da, db = (_difference(v, axis, inner) / (2 * spacing[axis]) for v in (a, b))
            error, reference = error + (db - da) ** 2, reference + da**2
            if ok is not None:
                before, after = _neighbours(ok, axis, inner)
                whole &= before & after
        wrong += float(np.where(whole, error, 0.0).sum())
        right += float(np.where(whole, reference, 0.0).sum())
        count += int(whole.sum()) if ok is not None else error.size
    if count == 0:
        return float("nan")
    if right == 0:
        return 0.0 if wrong == 0 else float("inf")
    return float(np.sqrt(wrong / right))


def power_spectrum(values: np.ndarray, mask: np.ndarray | None = None) -> Spectrum:
    """Radially averaged power spectrum.

    The mean is taken off, and a Hann window along each axis keeps the volume's faces from leaking into all
    frequencies (Harris, Proc. IEEE 66(1), 1978). Samples that are not data count as the mean. Spectra of a vector's
    components are added.

    Parameters
    ----------
    values : ndarray
        ``(z, y, x[, c])``.
    mask : ndarray of bool, optional
        True where a sample is not data.

    Returns
    -------
    Spectrum
        As many bins as the longest axis has pairs of samples; empty ones are left out.

    Raises
    ------
    InputError
        If no sample is valid.
    """
    valid = valid_samples(values, mask)
    shape = values.shape[:3]
    radius = np.sqrt(sum(np.meshgrid(*(f**2 for f in _frequencies(shape)), indexing="ij", sparse=True)))
    bins = max(1, max(shape) // 2)
    # The mode of the mean is no frequency, and corners beyond 0.5 are not there in all directions.
    where = np.where((radius > 0) & (radius <= 0.5), np.ceil(radius * 2 * bins).astype(np.int32), 0)
    # Modes that the real transform leaves out are conjugates of those it keeps.
    weight = np.full(where.shape[2], 2.0)
    weight[0] = 1.0
    if shape[2] % 2 == 0 and shape[2] > 1:
        weight[-1] = 1.0
    weights = np.broadcast_to(weight, where.shape)
    count = np.bincount(where.ravel(), weights.ravel(), bins + 1)[1:]
    total = np.zeros(bins)
    for c in range(values.shape[3] if values.ndim == 4 else 1):
        part = values[..., c] if values.ndim == 4 else values
        ok = valid[..., c] if valid is not None and values.ndim == 4 else valid
        total += np.bincount(where.ravel(), (weights * _powers(part, ok)).ravel(), bins + 1)[1:]
    filled = count > 0
    middles = (np.arange(bins) + 0.5) / (2 * bins)
    return Spectrum(middles[filled], total[filled] / count[filled])


def spectrum_error(original: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of ``|10 log10(Pb / Pa)|`` in dB over the bins of `power_spectrum`.

    Powers count as at least `POWER_FLOOR` of the original's largest. 0 where all powers are right, whatever the phases.

    Raises
    ------
    InputError
        If the shapes differ or no sample is valid.
    """
    _check(original, decoded)
    valid = valid_samples(original, mask)
    hidden = None if valid is None else ~valid
    a, b = power_spectrum(original, hidden).power, power_spectrum(decoded, hidden).power
    floor = POWER_FLOOR * float(a.max()) if a.size else 0.0
    if floor == 0:
        return 0.0 if not b.any() else float("inf")
    return float(np.abs(10 * np.log10(np.maximum(b, floor) / np.maximum(a, floor))).mean())


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape:
        raise InputError(f"cannot compare arrays of different shape: {original.shape} and {decoded.shape}")


def _core(a: np.ndarray, inner: Sequence[int]) -> np.ndarray:
    return a[tuple(slice(i, n - i) for i, n in zip(inner, a.shape, strict=False))]


def _neighbours(a: np.ndarray, axis: int, inner: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    box = [slice(i, n - i) for i, n in zip(inner, a.shape, strict=False)]
    n = a.shape[axis]
    before, after = list(box), list(box)
    before[axis], after[axis] = slice(0, n - 2), slice(2, n)
    return a[tuple(before)], a[tuple(after)]


def _difference(a: np.ndarray, axis: int, inner: Sequence[int]) -> np.ndarray:
    before, after = _neighbours(a, axis, inner)
    return after - before


def _frequencies(shape: Sequence[int]) -> list[np.ndarray]:
    return [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]


def _powers(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    if valid is not None and not valid.any():
        raise InputError("no sample to take a spectrum of: every value is NaN, infinite or masked")
    mean = float(values.mean(dtype=np.float64) if valid is None else values[valid].mean(dtype=np.float64))
    a = values.astype(np.float64) - mean
    if valid is not None:
        a = np.where(valid, a, 0.0)
    for axis, n in enumerate(a.shape):
        if n > 2:
            window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
            a *= window.reshape([-1 if i == axis else 1 for i in range(3)])
    modes = np.fft.rfftn(a)
    return modes.real**2 + modes.imag**2
