"""Every figure against an independent way to compute it."""

from itertools import product

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.errors import InputError
from neurcomp_core.metrics import measure, ssim


def pair(shape, dtype: type = np.float32, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(70, 12, shape).astype(dtype)
    return a, (a + rng.normal(0, 3, shape)).astype(dtype)


def naive_ssim(a, b, valid=None) -> float:
    """Wang's formula, window by window, with numpy's own variances."""
    valid = np.ones(a.shape, bool) if valid is None else valid
    window = [min(7, n) for n in a.shape]
    value_range = float(a[valid].max()) - float(a[valid].min())
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    scores = []
    for corner in product(*(range(n - w + 1) for n, w in zip(a.shape, window, strict=True))):
        where = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        if not valid[where].all():
            continue
        x, y = a[where].astype(float).ravel(), b[where].astype(float).ravel()
        (sxx, sxy), (_, syy) = np.cov(x, y)
        mx, my = x.mean(), y.mean()
        scores.append((2 * mx * my + c1) * (2 * sxy + c2) / ((mx**2 + my**2 + c1) * (sxx + syy + c2)))
    return float(np.mean(scores)) if scores else np.nan


@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 20, 30), (1, 1, 50), (5, 6, 7, 3), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int16, np.uint64])
def test_figures_against_plain_formulas(shape, dtype):
    a, b = pair(shape, dtype)
    q = measure(a, b)
    error = a.astype(float) - b.astype(float)
    span = float(a.max()) - float(a.min())
    assert q.samples == a.size
    assert q.range == pytest.approx(span)
    assert q.max_error == pytest.approx(np.abs(error).max())
    assert q.rmse == pytest.approx(np.sqrt(np.mean(error**2)))
    if span > 0 and q.rmse > 0:
        assert q.psnr == pytest.approx(20 * np.log10(span) - 10 * np.log10(np.mean(error**2)))


def test_psnr_is_of_the_range_not_of_the_maximum():
    a = np.array([[[100.0, 101.0, 100.5]]])
    assert measure(a, a + 0.1).psnr == pytest.approx(20.0)
    # TTHRESH takes half the range as its peak, 6.02 dB less.
    assert metrics.psnr(1.0, 0.1) - 20 * np.log10(0.5 / 0.1) == pytest.approx(6.0206, abs=1e-4)


def test_lossless_and_constant_fields():
    a, b = pair((4, 5, 6))
    assert measure(a, a).psnr == np.inf
    flat = np.full_like(a, 3)
    assert measure(flat, flat).psnr == np.inf
    assert measure(flat, b).psnr == -np.inf
    assert measure(flat, b).range == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_originals_are_left_out(bad):
    a, b = pair((6, 7, 8))
    holes = np.random.default_rng(1).random(a.shape) < 0.2
    expected = measure(a[~holes].reshape(1, 1, -1), b[~holes].reshape(1, 1, -1))
    a[holes] = bad
    got = measure(a, b)
    assert (got.samples, got.range, got.max_error) == (expected.samples, expected.range, expected.max_error)
    assert got.rmse == pytest.approx(expected.rmse)
    # What stands at the holes of the decoded field plays no part.
    b[holes] = np.nan
    assert measure(a, b) == got


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("error")
def test_nonfinite_reconstruction_is_an_infinite_error(bad):
    a, b = pair((6, 7, 8))
    b[1, 2, 3] = bad
    q = measure(a, b)
    assert (q.max_error, q.rmse, q.psnr) == (np.inf, np.inf, -np.inf)


def test_masks_of_samples_and_of_components():
    a, b = pair((4, 5, 6, 3))
    rng = np.random.default_rng(2)
    by_sample, by_component = rng.random(a.shape[:3]) < 0.3, rng.random(a.shape) < 0.3
    for mask, keep in ((by_sample, ~by_sample[..., None] & np.ones(3, bool)), (by_component, ~by_component)):
        q = measure(a, b, mask)
        error = (a.astype(float) - b)[keep]
        assert q.samples == keep.sum()
        assert q.max_error == np.abs(error).max()
        assert q.rmse == pytest.approx(np.sqrt(np.mean(error**2)))
        assert q.range == pytest.approx(float(a[keep].max()) - float(a[keep].min()))


def test_mask_and_nan_together():
    a, b = pair((4, 5, 6))
    mask = np.zeros(a.shape, bool)
    mask[0] = True
    a[1] = np.nan
    valid = metrics.valid_samples(a, mask)
    assert valid is not None
    assert valid[2:].all()
    assert not valid[:2].any()
    assert measure(a, b, mask).samples == 60
    assert metrics.valid_samples(b, np.zeros(b.shape, bool)) is None


@pytest.mark.parametrize(("dtype", "base"), [(np.int64, -(2**62)), (np.int64, 2**62), (np.uint64, 2**63)])
def test_64_bit_integers_are_exact(dtype, base):
    a = np.array([[[base, base + 1, base + 100]]], dtype)
    b = np.array([[[base + 1, base, base + 100]]], dtype)
    q = measure(a, b)
    assert (q.max_error, q.range) == (1.0, 100.0)
    assert q.rmse == pytest.approx(np.sqrt(2 / 3))


def test_64_bit_extremes_do_not_wrap():
    info = np.iinfo(np.int64)
    a, b = np.array([[[info.min, info.max]]]), np.array([[[info.max, info.min]]])
    assert measure(a, b).max_error == pytest.approx(2.0**64)
    assert measure(a, b).range == pytest.approx(2.0**64)


def test_small_integers_do_not_wrap():
    a, b = np.array([[[0, 255]]], np.uint8), np.array([[[255, 0]]], np.uint8)
    assert measure(a, b).max_error == 255


def test_chunks_make_no_difference(monkeypatch):
    a, b = pair((7, 11, 13))
    a[3, :5] = np.nan
    whole = measure(a, b)
    monkeypatch.setattr(metrics, "_CHUNK", 17)
    parts = measure(a, b)
    assert (parts.samples, parts.range, parts.max_error) == (whole.samples, whole.range, whole.max_error)
    assert parts.rmse == pytest.approx(whole.rmse, rel=1e-12)


def test_views_that_are_not_contiguous():
    a, b = pair((8, 8, 8))
    got, expected = measure(a[::2, :, ::-1], b[::2, :, ::-1]), measure(a[::2].copy(), b[::2].copy())
    assert got.rmse == pytest.approx(expected.rmse)
    assert got.max_error == expected.max_error


def test_what_cannot_be_compared():
    a, b = pair((3, 4, 5))
    with pytest.raises(InputError, match=r"\(3, 4, 5\) and \(3, 4, 4\)"):
        measure(a, b[..., :4])
    with pytest.raises(InputError, match="different shape"):
        ssim(a, b[:1])
    with pytest.raises(InputError, match="no sample"):
        measure(np.full_like(a, np.nan), b)
    with pytest.raises(InputError, match="no sample"):
        measure(a, b, np.ones(a.shape, bool))


@pytest.mark.parametrize("shape", [(9, 10, 11), (1, 15, 12), (1, 1, 40), (3, 9, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_ssim_against_a_naive_loop(shape, dtype):
    a, b = pair(shape, dtype)
    assert ssim(a, b) == pytest.approx(naive_ssim(a, b), abs=1e-10)
    assert ssim(a, b) < 0.999
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_ssim_on_a_large_offset():
    a, b = pair((8, 9, 10), np.float64)
    assert ssim(a + 1e6, b + 1e6) == pytest.approx(naive_ssim(a + 1e6, b + 1e6), abs=1e-6)


def test_ssim_with_holes_counts_whole_windows_only():
    a, b = pair((9, 10, 16))
    expected_valid = np.ones(a.shape, bool)
    expected_valid[2, 3, 4] = expected_valid[8, 9, 13] = False
    for use_mask in (False, True):
        x = a.copy()
        if not use_mask:
            x[~expected_valid] = np.nan
        got = ssim(x, b, ~expected_valid if use_mask else None)
        assert got == pytest.approx(naive_ssim(a, b, expected_valid), abs=1e-10)
    assert np.isnan(ssim(a[:7, :7, :7], b[:7, :7, :7], ~expected_valid[:7, :7, :7]))


def test_ssim_averages_components():
    a, b = pair((8, 8, 8, 2))
    expected = np.mean([naive_ssim(a[..., c], b[..., c]) for c in range(2)])
    assert ssim(a, b) == pytest.approx(expected, abs=1e-10)


def test_ssim_slabs_make_no_difference():
    # Planes of a million samples make several slabs; a small pattern repeated in x and y has the
    # same mean as one of them, save for the windows across their borders.
    a, b = pair((12, 16, 16), np.float32)
    tiled = tuple(np.tile(v, (1, 64, 64)) for v in (a, b))
    rim = tuple(np.pad(v, ((0, 0), (0, 6), (0, 6)), mode="wrap") for v in (a, b))
    one_slab = ssim(*rim)
    assert ssim(*(v[:, :1024, :1024] for v in tiled)) == pytest.approx(one_slab, abs=2e-4)


def test_ssim_of_a_constant_original():
    flat = np.full((8, 8, 8), 3.3)
    assert ssim(flat, flat) == 1
    assert ssim(flat, flat + 1) == 0
    half = flat.copy()
    half[7] = 4
    # Of the two layers of windows, one holds the changed plane.
    assert ssim(flat, half) == pytest.approx(0.5)
    assert np.isnan(ssim(flat[:1, :1, :1], flat[:1, :1, :1]))


def test_rates():
    assert metrics.ratio(1000, 10) == 100
    assert metrics.bits_per_voxel(100, 800) == 1
