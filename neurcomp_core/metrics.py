"""Quality and size figures; each is defined here once, and every report names it.

All statistics run over the valid samples of the original: finite and not masked. Errors are taken in float64.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError

# Samples per chunk of a reduction: float64 temporaries stay a few MB however large the volume is.
_CHUNK = 1 << 16
# Planes that are read of a mapped array before their pages are let go.
_PLANES = 8


@dataclass(frozen=True)
class Quality:
    """Difference of a reconstruction from its original.

    Attributes
    ----------
    psnr : float
        ``20 log10(range / rmse)`` in dB; infinite for a lossless reconstruction.
    rmse : float
        ``sqrt(mean((a - b)^2))``.
    max_error : float
        ``max |a - b|``.
    range : float
        ``max(a) - min(a)`` of the original.
    samples : int
        Number of valid samples the figures are taken over.
    """

    psnr: float
    rmse: float
    max_error: float
    range: float
    samples: int


def psnr(value_range: float, rmse: float) -> float:
    """PSNR in dB from range and RMSE: ``20 log10(range / rmse)``.

    The peak is the original's range (max - min), not its maximum. TTHRESH's own figure is 6.02 dB lower.
    """
    if rmse == 0:
        return float("inf")
    ratio = value_range / rmse
    return 20 * float(np.log10(ratio)) if ratio > 0 else float("-inf")


def valid_samples(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray | None:
    """Boolean array of finite, unmasked samples, or None when all are."""
    finite = None if values.dtype.kind != "f" or _all_finite(values) else np.isfinite(values)
    if mask is None or not mask.any():
        return finite
    keep = np.broadcast_to(~mask if mask.ndim == values.ndim else ~mask[..., None], values.shape)
    return keep if finite is None else keep & finite


def slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of an array along its first axis of at most some 64 MB; of a mapped one, one at a time is in memory."""
    for part in np.array_split(values, min(max(values.nbytes >> 26, 1), len(values))):
        yield part
        release(values)


def limits(values: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.generic, np.generic]:
    """Least and largest of the valid samples, of which there must be one."""
    if valid is not None:
        values = values[valid]
    ends = [(part.min(), part.max()) for part in slabs(values)]
    return min(e[0] for e in ends), max(e[1] for e in ends)


def _mapped(values: np.ndarray) -> np.memmap | None:
    """The memory-mapped array that an array is a view of."""
    source: object = values
    while source is not None and not isinstance(source, np.memmap):
        source = getattr(source, "base", None)
    return source


def release(values: np.ndarray) -> None:
    """Let go of the pages that a memory-mapped array has brought into memory."""
    source = _mapped(values)
    # Changes to a private copy ("c") would be lost.
    if source is not None and source.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        source._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def box_of(values: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """A box of an array; of a mapped one a copy, read plane by plane."""
    source = values[box]
    if _mapped(values) is None:
        return source
    out = np.empty(source.shape, source.dtype)
    for first in range(0, len(out), _PLANES):
        out[first : first + _PLANES] = source[first : first + _PLANES]
        release(values)
    return out


def set_box(values: np.ndarray, box: tuple[slice, ...], part: np.ndarray) -> None:
    """Assign a box of a mapped array, plane by plane."""
    target = values[box]
    for first in range(0, len(part), _PLANES):
        target[first : first + _PLANES] = part[first : first + _PLANES]
        release(values)


def _all_finite(values: np.ndarray) -> bool:
    """Whether all are; without a mask of the size of a large array."""
    return all(np.isfinite(part).all() for part in slabs(values))


def root_mean_square(values: np.ndarray, mask: np.ndarray | None = None) -> float:
    """``sqrt(mean(a^2))`` over the valid samples; 0 if there are none."""
    valid = valid_samples(values, mask)
    flat, keep = values.reshape(-1), None if valid is None else valid.reshape(-1)
    count, total = 0, 0.0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        part = (part if keep is None else part[keep[start : start + _CHUNK]]).astype(np.float64)
        count += part.size
        total += float(np.dot(part, part))
    return float(np.sqrt(total / count)) if count else 0.0


class Measuring:
    """`measure` of arrays that come in parts; `quality` is that of the parts so far."""

    def __init__(self) -> None:
        self._count, self._total, self._worst = 0, 0.0, 0.0
        # Python's own numbers: the range of 64-bit integers is exact, too.
        self._low, self._high = float("inf"), float("-inf")

    def add(self, original: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Take another part; see `measure`."""
        if original.shape != decoded.shape:
            raise InputError(f"cannot compare arrays of different shape: {original.shape} and {decoded.shape}")
        valid = valid_samples(original, mask)
        flat_a, flat_b = original.reshape(-1), decoded.reshape(-1)
        flat_valid = None if valid is None else valid.reshape(-1)
        for start in range(0, flat_a.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            a, b = flat_a[part], flat_b[part]
            if flat_valid is not None:
                a, b = a[flat_valid[part]], b[flat_valid[part]]
            if a.size == 0:
                continue
            error = _difference(a, b)
            self._count += a.size
            self._total += float(np.dot(error, error))
            worst = max(float(error.max()), -float(error.min()))
            self._worst = max(self._worst, np.inf if math.isnan(worst) else worst)
            self._low, self._high = min(self._low, a.min().item()), max(self._high, a.max().item())

    @property
    def quality(self) -> Quality:
        """Raises InputError if no sample was valid."""
        if self._count == 0:
            raise InputError("no sample to compare: every value is NaN, infinite or masked")
        rmse = float(np.sqrt(self._total / self._count)) if np.isfinite(self._worst) else float("inf")
        value_range = float(self._high - self._low)
        return Quality(psnr(value_range, rmse), rmse, self._worst, value_range, self._count)


def measure(original: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None = None) -> Quality:
    """Quality of `decoded` against `original`, arrays of one shape ``(z, y, x[, c])``.

    A non-finite decoded sample where the original is valid counts as an infinite error.

    Raises
    ------
    InputError
        If the shapes differ or no sample is valid.
    """
    measuring = Measuring()
    measuring.add(original, decoded, mask)
    return measuring.quality


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu" and a.dtype.itemsize == 8 and b.dtype == a.dtype:
        # float64 rounds 64-bit integers; the unsigned difference is exact.
        return np.where(a > b, a.view("u8") - b.view("u8"), b.view("u8") - a.view("u8")).astype(np.float64)
    return np.subtract(a, b, dtype=np.float64)


def ssim(original: np.ndarray, decoded: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean structural similarity over uniform windows of 7 samples per axis.

    ``((2 ma mb + c1)(2 sab + c2)) / ((ma^2 + mb^2 + c1)(sa^2 + sb^2 + c2))`` with ``c1 = (0.01 range)^2``,
    ``c2 = (0.03 range)^2`` and unbiased (co)variances, averaged over all windows that lie inside the volume and
    hold only valid samples (Wang et al., IEEE TIP 13(4), 2004, eq. 13, on volumes). Axes shorter than 7 take a
    window of their length; components of a vector are averaged. A constant original, for which the formula is 0 / 0,
    scores 1 where a window is reproduced exactly and 0 elsewhere.

    Returns
    -------
    float
        1 for identical arrays; NaN if no window is wholly valid.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if original.shape != decoded.shape:
        raise InputError(f"cannot compare arrays of different shape: {original.shape} and {decoded.shape}")
    if original.ndim == 4:
        parts = [
            ssim(original[..., c], decoded[..., c], mask[..., c] if mask is not None and mask.ndim == 4 else mask)
            for c in range(original.shape[3])
        ]
        return float(np.nanmean(parts)) if not np.isnan(parts).all() else float("nan")
    valid = valid_samples(original, mask)
    window = tuple(min(7, n) for n in original.shape)
    count = int(np.prod(window))
    kept = original if valid is None else original[valid]
    if kept.size == 0 or count < 2:
        return float("nan")
    value_range = float(kept.max()) - float(kept.min())
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    total, windows = 0.0, 0
    depth = window[0]
    # Slabs of windows keep the float64 temporaries small; the offset keeps sums of squares well conditioned.
    step = max(1, (4 << 20) // (original.shape[1] * original.shape[2]))
    for z in range(0, original.shape[0] - depth + 1, step):
        slab = slice(z, min(z + step + depth - 1, original.shape[0]))
        offset = float(kept.min())
        a = original[slab].astype(np.float64) - offset
        b = decoded[slab].astype(np.float64) - offset
        whole = None
        if valid is not None:
            ok = valid[slab]
            a, b = np.where(ok, a, 0.0), np.where(ok, b, 0.0)
            whole = _window_sum(ok.astype(np.float64), window) > count - 0.5
        ma, mb = _window_sum(a, window) / count, _window_sum(b, window) / count
        unbiased = count / (count - 1)
        va = (_window_sum(a * a, window) / count - ma * ma) * unbiased
        vb = (_window_sum(b * b, window) / count - mb * mb) * unbiased
        vab = (_window_sum(a * b, window) / count - ma * mb) * unbiased
        # The luminance term is of the values themselves, not of the shifted ones.
        ma, mb = ma + offset, mb + offset
        bottom = (ma * ma + mb * mb + c1) * (va + vb + c2)
        top = (2 * ma * mb + c1) * (2 * vab + c2)
        score = np.divide(top, bottom, out=np.ones_like(top), where=bottom != 0)
        if value_range == 0:
            score = (_window_sum((a != b).astype(np.float64), window) < 0.5).astype(np.float64)
        if whole is not None:
            score = score[whole]
        total += float(score.sum())
        windows += score.size
    return total / windows if windows else float("nan")


def _window_sum(a: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    for axis, n in enumerate(window):
        sums = np.cumsum(a, axis=axis)
        head = np.take(sums, [n - 1], axis=axis)
        rest = np.take(sums, range(n, a.shape[axis]), axis=axis) - np.take(sums, range(a.shape[axis] - n), axis=axis)
        a = np.concatenate([head, rest], axis=axis)
    return a


def ratio(raw_bytes: int, file_bytes: int) -> float:
    """Compression ratio: bytes of the array in memory divided by bytes of the file, header and all."""
    return raw_bytes / file_bytes


def bits_per_voxel(file_bytes: int, voxels: int) -> float:
    """``8 * file_bytes / voxels``; a vector counts as one voxel."""
    return 8 * file_bytes / voxels
