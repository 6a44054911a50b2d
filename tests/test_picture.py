"""Pictures are read back: what is drawn, not only that something is."""

from dataclasses import replace

import numpy as np
import pytest

from neurcomp_core import picture
from neurcomp_core.errors import InputError, MissingExtraError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.metrics import measure
from neurcomp_core.samples import marschner_lobb

pytest.importorskip("matplotlib", reason="pictures need the extra 'plot'")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, for a look at their parts."""
    figures = []
    save = picture._save

    def keep(figure, path, kind):
        figures.append(figure)
        save(figure, path, kind)

    monkeypatch.setattr(picture, "_save", keep)
    return figures


def pixels(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def panels(figure):
    return [ax for ax in figure.axes if ax.images or ax.collections]


def shown(ax):
    return (ax.images or ax.collections)[0]


def heading(figure):
    # Figure.get_suptitle came with matplotlib 3.8.
    return figure._suptitle.get_text()


def noisy(field, size=0.01, seed=0):
    noise = np.random.default_rng(seed).normal(0, size, field.values.shape)
    return replace(field, values=(field.values + noise).astype(field.values.dtype))


def test_comparison_shows_original_decoded_and_error(tmp_path, drawn):
    field = marschner_lobb(20)
    other = noisy(field)
    path = tmp_path / "a.png"
    picture.comparison(field, other, path, "Rings")
    image = pixels(path)
    assert image.shape[1] == 1200
    assert image.std() > 0.05
    # No label is cut off by the rim.
    for rim in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
        assert (rim == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    left, middle, right = panels(drawn[0])
    assert left.get_title() == "Original"
    assert middle.get_title() == "Decoded"
    assert right.get_title() == "Error: decoded − original"
    np.testing.assert_allclose(shown(right).get_array(), shown(middle).get_array() - shown(left).get_array(), atol=1e-6)
    assert shown(left).get_clim() == shown(middle).get_clim()
    assert shown(left).get_clim() == (shown(left).get_array().min(), shown(left).get_array().max())
    low, high = shown(right).get_clim()
    assert low == -high
    assert high == pytest.approx(np.percentile(np.abs(np.asarray(shown(right).get_array())), 99.9))
    title = heading(drawn[0])
    assert title.startswith("Rings")
    assert f"PSNR {measure(field.values, other.values).psnr:.2f} dB" in title


def test_the_error_panel_has_both_colours(tmp_path):
    values = np.zeros((1, 8, 8))
    values[0, 0, 0] = 1
    error = np.zeros_like(values)
    error[0, :, :4], error[0, :, 4:] = -0.1, 0.1
    field = Field(values)
    picture.comparison(field, replace(field, values=values + error), tmp_path / "a.png")
    image = pixels(tmp_path / "a.png")[:, 800:1080]
    red = (image[..., 0] > image[..., 2] + 0.2).sum()
    blue = (image[..., 2] > image[..., 0] + 0.2).sum()
    assert red > 10_000
    assert blue > 10_000
    # Blue, too low, is the left half.
    columns = (image[..., 2] > image[..., 0] + 0.2).nonzero()[1]
    assert columns.mean() < (image[..., 0] > image[..., 2] + 0.2).nonzero()[1].mean()


def test_masked_and_nonfinite_samples_are_grey(tmp_path, drawn):
    field = marschner_lobb(16)
    values = field.values.copy()
    values[:, :4] = np.nan
    mask = np.zeros(values.shape, bool)
    mask[:, :, 12:] = True
    field = replace(field, values=values, mask=mask)
    picture.comparison(field, noisy(field), tmp_path / "a.png", slices=3)
    assert len(panels(drawn[0])) == 9
    by_label = {ax.get_ylabel().split("slice ")[-1][0]: ax for ax in panels(drawn[0]) if "slice" in ax.get_ylabel()}
    hidden = np.ma.getmaskarray(shown(by_label["z"]).get_array())
    assert hidden[:4].all()
    assert hidden[:, 12:].all()
    assert not hidden[4:, :12].any()
    grey = np.abs(pixels(tmp_path / "a.png") - 0.72).max(-1) < 0.01
    assert grey.mean() > 0.05


def test_vectors_show_the_length_of_the_difference(tmp_path, drawn):
    values = np.zeros((4, 5, 6, 3), np.float32)
    values[..., 0] = 1 + np.arange(6)
    turned = values[..., [1, 0, 2]]
    field = Field(values, name="wind")
    picture.comparison(field, replace(field, values=turned), tmp_path / "a.png")
    left, middle, right = panels(drawn[0])
    # Equal lengths, wrong direction: a difference of magnitudes would be blind to it.
    np.testing.assert_allclose(shown(left).get_array(), shown(middle).get_array())
    np.testing.assert_allclose(shown(right).get_array(), np.sqrt(2) * shown(left).get_array(), rtol=1e-6)
    assert right.get_title() == "Error: |decoded − original|"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float64"])
def test_images_of_any_type(tmp_path, drawn, dtype):
    values = (np.arange(12)[:, None] * np.arange(1, 21) % 250).astype(dtype)[None]
    field = Field(values)
    picture.comparison(field, replace(field, values=values[..., ::-1].copy()), tmp_path / "a.png")
    left, _, right = panels(drawn[0])
    assert shown(left).get_array().shape == (12, 20)
    np.testing.assert_array_equal(shown(right).get_array(), values[0, :, ::-1].astype(float) - values[0].astype(float))


def test_flat_axes_lines_and_single_samples(tmp_path, drawn):
    for shape, expected in (((9, 1, 7), (9, 7)), ((9, 7, 1), (9, 7)), ((1, 1, 30), (1, 30)), ((1, 1, 1), (1, 1))):
        field = Field(np.random.default_rng(0).random(shape))
        picture.comparison(field, noisy(field), tmp_path / "a.png", slices=3)
        assert len(panels(drawn[-1])) == 3
        assert shown(panels(drawn[-1])[0]).get_array().shape == expected


def test_identical_and_constant_fields(tmp_path, drawn):
    for field in (Field(np.full((3, 4, 5), 2.5)), Field(np.full((3, 4, 5), 1e30))):
        picture.comparison(field, field, tmp_path / "a.png")
        assert "lossless" in heading(drawn[-1])


def test_axes_are_in_world_coordinates(tmp_path, drawn):
    grid = UniformGrid((2, 6, 0, 3, 0, 0), origin=(10.0, 0.0, 0.0), spacing=(2.0, 5.0, 1.0))
    field = Field(np.random.default_rng(0).random((1, 4, 5)), grid)
    picture.comparison(field, noisy(field), tmp_path / "a.png")
    ax = panels(drawn[0])[0]
    # Points are in the middle of what is drawn for them: 14 - 1 to 22 + 1.
    assert ax.get_xlim() == pytest.approx((13, 23))
    assert ax.get_ylim() == pytest.approx((-2.5, 17.5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")

    cells = Field(field.values[:, :3, :4], grid, association="cell")
    picture.comparison(cells, noisy(cells), tmp_path / "a.png")
    assert panels(drawn[1])[0].get_xlim() == pytest.approx((14, 22))


def test_rectilinear_axes_stretch_and_may_descend(tmp_path, drawn):
    x, y = np.array([0.0, 1.0, 4.0, 9.0]), np.array([6.0, 3.0, 1.0])
    values = np.arange(6.0).reshape(1, 2, 3)
    field = Field(values, RectilinearGrid(x, y, np.array([0.0])), association="cell")
    picture.comparison(field, noisy(field), tmp_path / "a.png")
    ax = panels(drawn[0])[0]
    assert ax.get_xlim() == (0, 9)
    assert ax.get_ylim() == (1, 6)
    np.testing.assert_array_equal(shown(ax).get_array().reshape(2, 3), values[0, ::-1])
    # The last of three cells takes 5/9 of the width.
    image = pixels(tmp_path / "a.png")
    row = image[image.shape[0] // 2, 100:370]
    _, counts = np.unique(row.round(3), axis=0, return_counts=True)
    assert counts.max() > 0.45 * counts.sum()


def test_names_are_not_mathematics(tmp_path):
    field = Field(np.random.default_rng(0).random((2, 3, 4)), name="a$b^{$")
    picture.comparison(field, noisy(field), tmp_path / "a.png")
    picture.rate_distortion({"a$b^{$": [(1, 30)]}, tmp_path / "b.png", "a$b^{$")


def test_other_formats_and_bad_arguments(tmp_path):
    field = marschner_lobb(8)
    for suffix, magic in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        picture.comparison(field, noisy(field), tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)
    with pytest.raises(InputError, match=r"ends in \.png"):
        picture.comparison(field, field, tmp_path / "a.bmp2")
    with pytest.raises(InputError, match="different shape"):
        picture.comparison(field, marschner_lobb(9), tmp_path / "b.png")
    with pytest.raises(InputError, match="slices"):
        picture.comparison(field, field, tmp_path / "b.png", slices=4)
    assert not (tmp_path / "b.png").exists()


def test_no_global_state(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from neurcomp_core import picture; assert 'matplotlib' not in sys.modules;"
        f"picture.rate_distortion({{'a': [(1, 30)]}}, {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"neurcomp\[plot\]"):
        picture.rate_distortion({"a": [(1, 30)]}, tmp_path / "a.png")


def test_rate_distortion(tmp_path, drawn):
    curves = {"hashgrid": [(1.0, 50.0), (0.1, 35.0)], "wavelet": [(0.2, 36.0), (9.0, float("inf"))]}
    picture.rate_distortion(curves, tmp_path / "a.png", "A flow", raw_rate=32)
    assert pixels(tmp_path / "a.png").std() > 0.05
    ax = drawn[0].axes[0]
    first, second, lossless = ax.get_lines()
    assert ax.get_xscale() == "log"
    # Sorted by rate, so that the line does not run back.
    np.testing.assert_array_equal(first.get_xydata(), [(0.1, 35), (1, 50)])
    np.testing.assert_array_equal(second.get_xydata(), [(0.2, 36)])
    assert lossless.get_xdata() == [9.0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["hashgrid", "wavelet", "wavelet, lossless"]
    above = ax.child_axes[0].xaxis
    ticks = above.get_majorticklocs()
    assert [above.get_major_formatter()(t) for t in ticks] == [f"{32 / t:g}" for t in ticks]
    assert {"10", "100"} <= {above.get_major_formatter()(t) for t in ticks}


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one point"),
        ({"a": []}, "at least one point"),
        ({"a": [(0.0, 30.0)]}, "curve 'a'"),
        ({"a": [(1.0, float("nan"))]}, "curve 'a'"),
    ],
)
def test_rate_distortion_refuses_what_it_cannot_plot(tmp_path, curves, message):
    with pytest.raises(InputError, match=message):
        picture.rate_distortion(curves, tmp_path / "a.png")
