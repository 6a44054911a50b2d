"""The contract of `neurcomp_core.radiance.codec`, over every registered codec, and the files that pin the format.

Golden files are made once, by ``python tests/test_radiance_codecs.py``, which leaves those that exist alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import container, decoding
from neurcomp_core.codec import Encoded, registry
from neurcomp_core.codecs.dvgo import Dvgo
from neurcomp_core.codecs.nerf import Nerf
from neurcomp_core.codecs.plenoxels import Plenoxels
from neurcomp_core.coding import wire
from neurcomp_core.container import Container, Header, RadianceRecord
from neurcomp_core.errors import FormatError, InputError, TargetError
from neurcomp_core.radiance import files
from neurcomp_core.radiance.codec import (
    RadianceCodec,
    RadianceContext,
    codec_of,
    radiance_codec_by_id,
    radiance_codec_by_name,
    radiance_registry,
)
from neurcomp_core.radiance.coding.attributes import LIMIT, decode_attributes, encode_attributes
from neurcomp_core.radiance.coding.floats import decode_floats, encode_floats
from neurcomp_core.radiance.coding.indices import decode_indices
from neurcomp_core.radiance.coding.occupancy import decode_occupancy, encode_occupancy
from neurcomp_core.radiance.coding.quantise import Quantiser
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, NerfWeights
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.target import Bytes, Psnr, PsnrLoss, Ratio

GOLDEN = Path(__file__).parent / "golden"
CONTEXT = RadianceContext(device="cpu", threads=1)
BOX = np.array([[-1.0, -1.5, -1.0], [1.0, 1.0, 1.25]])
CODECS = sorted(radiance_registry())
#: Those that store a model as it is, but for rounding, and have the preset "lossless".
ROUNDING = sorted(name for name in CODECS if "lossless" in radiance_registry()[name].presets)
#: Parameters that make a codec quick; quality is not what is tested here.
QUICK: dict[str, dict[str, Any]] = {"vqrf": {"codes": 16, "rounds": 3, "tune": 0, "refine": 0}}
#: Their golden files are made where they are tested.
ELSEWHERE = {"vqrf"}
every_codec = pytest.mark.parametrize("name", CODECS)
every_rounding = pytest.mark.parametrize("name", ROUNDING)


def sparse(shape: tuple[int, int, int] = (7, 8, 9), far: bool = False, degree: int = 1) -> SparseGrid:
    """A ball with smooth and noisy values; rows in no order."""
    draw = np.random.default_rng(3)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    keep = z**2 + y**2 + x**2 < 0.9
    functions = (degree + 1) ** 2
    density = 20 * (1 - z**2 - y**2 - x**2) + draw.normal(0, 1, shape)
    sh = np.sin(3 * x + 2 * y)[..., None, None] * 0.3 + draw.normal(0, 0.1, (*shape, 3, functions))
    made = SparseGrid.from_dense(density, sh, BOX, keep)
    order = draw.permutation(len(made.density)).astype(np.int32)
    turned = np.where(keep, order[np.maximum(made.links, 0)], EMPTY).astype(np.int32)
    back = np.argsort(order)
    layers = None
    if far:
        links = np.full((8, 4), EMPTY, np.int32)
        links[2:5] = np.arange(12).reshape(3, 4)[::-1]
        layers = SphereLayers(links, draw.normal(0, 0.3, (12, 2, 4)).astype(np.float32))
    return SparseGrid(turned, made.density[back], made.sh[back], BOX, layers)


def direct(shape: tuple[int, int, int] = (6, 7, 8), channels: int = 6, mask: bool = True) -> DvgoModel:
    """Something in the middle of free space, with a network that adds to three of its channels."""
    draw = np.random.default_rng(4)
    density = np.full(shape, -6.0, np.float32)
    middle = density[1:3, 1:5, 3:6]
    middle[:] = draw.normal(6, 1, middle.shape)
    width = channels - 3 + 3 + 6 * 2
    layers = tuple(
        (draw.normal(0, 0.2, (o, i)).astype(np.float32), draw.normal(0, 0.1, o).astype(np.float32))
        for o, i in ((10, width), (3, 10))
    )
    features = draw.normal(0, 1, (*shape, channels)).astype(np.float32)
    return DvgoModel(density, features, BOX, -4.0, 0.25, layers, 2, False, density[:5] > -5 if mask else None)


def plain(shape: tuple[int, int, int]) -> DvgoModel:
    """Colours, without a network."""
    draw = np.random.default_rng(6)
    density, colors = draw.normal(0, 3, shape), draw.normal(0, 1, (*shape, 3))
    return DvgoModel(density.astype(np.float32), colors.astype(np.float32), BOX, -4.0, 0.25)


def network(width: int = 12, views: bool = True, zeros: float = 0.0) -> NerfMlp:
    draw = np.random.default_rng(5)

    def dense(outputs: int, inputs: int) -> Dense:
        weight = draw.normal(0, 0.2, (outputs, inputs)) * (draw.random((outputs, inputs)) >= zeros)
        return Dense(weight.astype(np.float32), draw.normal(0, 0.1, outputs).astype(np.float32))

    trunk = dense(width, 15), dense(width, width), dense(width, width + 15), dense(width, width)
    if not views:
        return NerfMlp(trunk, dense(1, width), dense(3, width))
    return NerfMlp(trunk, dense(1, width), dense(3, 6), dense(width, width), (dense(6, width + 9),))


def models() -> dict[str, RadianceModel]:
    """What each codec has to bring back."""
    one = np.ones((3, 1, 2))
    empty = SparseGrid(np.full((5, 6, 7), EMPTY, np.int32), np.zeros(0, "f4"), np.zeros((0, 3, 9), "f4"), BOX)
    return {
        "plenoxels": sparse(),
        "plenoxels-background": sparse(far=True),
        "plenoxels-empty": empty,
        "plenoxels-line": sparse((1, 1, 40)),
        "plenoxels-full": SparseGrid.from_dense(one, np.zeros((3, 1, 2, 3, 1)), BOX, one > 0),
        "dvgo": direct(),
        "dvgo-plain": plain((2, 2, 30)),
        "nerf": NerfWeights(network(), network(8, False)),
        "nerf-coarse": NerfWeights(network(8, False)),
        "nerf-pruned": NerfWeights(network(zeros=0.9)),
        "vqrf": sparse(),
    }  # fmt: skip


def volume(model: RadianceModel, **more: Any) -> RadianceVolume:
    return RadianceVolume(model, BOX if isinstance(model, NerfWeights) else model.box, **more)


def quick(name: str) -> RadianceCodec:
    return radiance_codec_by_name(name).from_preset("balanced", **QUICK.get(name, {}))


def test_there_is_a_case_for_every_codec() -> None:
    assert set(CODECS) <= {case.split("-")[0] for case in models()}


def exact(name: str) -> RadianceCodec:
    return radiance_codec_by_name(name).from_preset("lossless")


# ------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("case", [c for c in models() if c.split("-")[0] in ROUNDING])
@pytest.mark.parametrize("preset", ["lossless", "balanced"])
def test_fields_return(case: str, preset: str) -> None:
    given = volume(
        models()[case], scene="unbounded", near=0.5, far=7.25, background=(0.0, 0.5, 1.0), name="Δ", psnr=30.0
    )
    codec = radiance_codec_by_name(case.split("-")[0]).from_preset(preset)
    made = files.compress(given, codec, None, CONTEXT)
    got = files.load(made.data)
    assert (got.scene, got.near, got.far, got.background, got.name) == ("unbounded", 0.5, 7.25, (0.0, 0.5, 1.0), "Δ")
    np.testing.assert_array_equal(got.box, given.box)
    assert type(got.model) is type(given.model)
    assert made.raw_bytes == given.nbytes
    assert files.same_model(made.volume.model, got.model)
    # The file is its stages' last, and little besides.
    assert 0 < len(made.data) - made.stages[-1].nbytes < 130
    if preset == "lossless":
        assert made.lossless
        assert files.same_model(got.model, given.model)
        assert got.psnr == 30.0
    else:
        assert got.psnr is None or made.lossless
        # The steps take some bytes.
        assert len(made.data) <= len(files.compress(given, type(codec)(), None, CONTEXT).data) + 16


@every_codec
def test_same_seed_same_bytes(name: str) -> None:
    one, two = (files.compress(volume(models()[name]), quick(name), None, CONTEXT) for _ in range(2))
    assert one.data == two.data
    assert isinstance(files.load(one.data).model, radiance_registry()[name].takes)


def test_rows_come_back_in_the_order_of_voxels() -> None:
    got = files.load(files.compress(volume(sparse()), Plenoxels(), None, CONTEXT).data).model
    assert isinstance(got, SparseGrid)
    used = got.links[got.links != EMPTY]
    np.testing.assert_array_equal(used, np.arange(len(got.density)))
    np.testing.assert_array_equal(got.dense()[0], sparse().dense()[0])


@pytest.mark.parametrize("bits", [4.0, 8.0])
def test_rounding_keeps_within_half_a_step(bits: float) -> None:
    grid = sparse()
    got = files.compress(volume(grid), Plenoxels(sh_bits=bits), None, CONTEXT).volume.model
    assert isinstance(got, SparseGrid)
    record = Container(files.compress(volume(grid), Plenoxels(sh_bits=bits), None, CONTEXT).data).header.radiance[0]
    step = radiance_codec_by_id(20).describe(Encoded(record.params, ()))["sh step"]
    assert np.abs(got.dense()[1] - grid.dense()[1]).max() <= step / 2 * (1 + 1e-5)
    np.testing.assert_array_equal(got.dense()[0], grid.dense()[0])


def test_samples_of_dvgo_that_cannot_be_seen_are_left_out() -> None:
    given = direct()
    got = files.compress(volume(given), Dvgo(clear=1e-2), None, CONTEXT).volume.model
    assert isinstance(got, DvgoModel)
    seen = np.logaddexp(0, given.density + given.shift) > 0.1
    assert (got.density[seen] == given.density[seen]).all()
    assert (got.features[seen] == given.features[seen]).all()
    assert (got.features[0, 0, 0] == 0).all()
    assert got.density[0, 0, 0] == pytest.approx(-6)


def test_pruned_weights_cost_little_and_shared_ones_are_labels() -> None:
    dense, pruned = (
        files.compress(volume(NerfWeights(network(64, zeros=z))), "nerf", None, CONTEXT) for z in (0, 0.95)
    )
    assert len(pruned.data) < 0.25 * len(dense.data)
    rounded = files.compress(volume(NerfWeights(network(64))), Nerf(bits=4, bias_bits=4), None, CONTEXT).volume
    again = files.compress(rounded, Nerf(), None, CONTEXT)
    assert again.lossless
    assert len(again.data) < 0.2 * rounded.nbytes


# ----------------------------------------------------------------------------------------------------------- targets


@every_rounding
def test_a_budget_is_used_and_never_exceeded(name: str) -> None:
    given = volume(models()[name])
    made = files.compress(given, name, None, CONTEXT)
    for target in (Bytes(1.25 * len(made.data)), Ratio(given.nbytes / (1.25 * len(made.data)))):
        got = files.compress(given, name, target, CONTEXT)
        limit = target.budget(given.nbytes)
        assert limit is not None
        # What surrounds so small a stream is some percent of it.
        assert 0.9 * limit <= len(got.data) <= limit
    with pytest.raises(TargetError, match=r"cannot be reached.* [\d.]+ bytes can"):
        files.compress(given, name, Bytes(60), CONTEXT)


@every_rounding
def test_a_budget_for_everything_is_lossless(name: str) -> None:
    given = volume(models()[name])
    made = files.compress(given, name, Bytes(4 * given.nbytes), CONTEXT)
    assert made.lossless


def test_a_loss_of_psnr_is_kept(tmp_path: Path) -> None:
    from neurcomp_core.radiance import loaders
    from neurcomp_core.radiance.evaluation import mean_psnr
    from neurcomp_core.radiance.scene_sets import scene_set, write
    from neurcomp_core.radiance.scenes import scene

    write(scene_set("inward", size=24, views=2, test_views=2), tmp_path)
    images = loaders.load(tmp_path).split("test")
    grid = scene("inward").grid(20, images.box)
    given = RadianceVolume.of(grid, images)
    seeing = replace(CONTEXT, unseen=images)
    before = mean_psnr(given, images)
    sizes = []
    for loss in (0.02, 0.5):
        made = files.compress(given, "plenoxels", PsnrLoss(loss), seeing)
        after = mean_psnr(files.load(made.data), images)
        assert made.psnr_before == pytest.approx(before)
        assert made.psnr == pytest.approx(after)
        assert before - after <= loss
        assert files.load(made.data).psnr == pytest.approx(after)
        sizes.append(len(made.data))
    assert sizes[1] < 0.8 * sizes[0]
    with pytest.raises(InputError, match="images"):
        files.compress(given, "plenoxels", PsnrLoss(1), CONTEXT)


@every_rounding
def test_other_targets_models_and_parameters_are_refused(name: str) -> None:
    given = volume(models()[name])
    with pytest.raises(InputError, match="psnr-loss, not to psnr"):
        files.compress(given, name, Psnr(30), CONTEXT)
    other = next(m for m in models().values() if not isinstance(m, radiance_registry()[name].takes))
    with pytest.raises(InputError, match=f"codec {name} takes a"):
        files.compress(volume(other), name, None, CONTEXT)
    with pytest.raises(InputError, match="no preset"):
        radiance_codec_by_name(name).from_preset("nonsense")
    with pytest.raises(InputError, match="no parameter"):
        radiance_codec_by_name(name).from_preset("balanced", nonsense=1)
    assert codec_of(given) is radiance_registry()[name]


@pytest.mark.parametrize("make", [lambda: Plenoxels(sh_bits=21), lambda: Dvgo(clear=1), lambda: Nerf(bits=-1)])
def test_parameters_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


@pytest.mark.parametrize("codec", [Plenoxels(), Plenoxels(4, 4)], ids=["lossless", "rounded"])
def test_values_that_are_no_numbers_are_refused(codec: RadianceCodec) -> None:
    grid = sparse()
    grid.sh[3, 1, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        files.compress(volume(grid), codec, None, CONTEXT)


# ---------------------------------------------------------------------------------------------------------- registry


def test_names_and_ids() -> None:
    # Stored in files for ever.
    stored = {"plenoxels": 20, "dvgo": 21, "nerf": 22}
    assert {name: radiance_registry()[name].id for name in stored} == stored
    ids = [c.id for c in (*radiance_registry().values(), *registry().values())]
    assert len(set(ids)) == len(ids)
    with pytest.raises(InputError, match=r"there are: .*plenoxels"):
        radiance_codec_by_name("wavelet")
    with pytest.raises(FormatError, match="codec 63"):
        radiance_codec_by_id(63)


# ------------------------------------------------------------------------------------------------------------- files


def test_files_say_what_they_hold() -> None:
    made = files.compress(volume(sparse(), name="mic"), "plenoxels", None, CONTEXT)
    assert files.holds_radiance(made.data)
    assert Container(made.data).version == 2
    with pytest.raises(InputError, match="no radiance field 'tree'; it has: 'mic'"):
        files.load(made.data, name="tree")
    assert files.load(Container(made.data), name="mic").name == "mic"
    with pytest.raises(InputError, match="a radiance field and no arrays"):
        decoding.decompress(made.data)


def test_files_of_arrays_keep_their_version_and_have_no_radiance() -> None:
    from neurcomp_core.field import Field
    from neurcomp_core.pipeline import compress

    data = compress(Field(np.full((2, 3, 4), 1.5)), Psnr(20)).data
    assert data[4] == 1
    assert not files.holds_radiance(data)
    with pytest.raises(InputError, match="no radiance field"):
        files.load(data)


def test_one_file_holds_arrays_and_several_fields() -> None:
    from neurcomp_core.field import Field
    from neurcomp_core.pipeline import compress

    arrays = Container(compress(Field(np.full((2, 3, 4), 1.5), name="a"), Psnr(20)).data)
    fields = [Container(files.compress(volume(sparse(), name=n), "plenoxels", None, CONTEXT).data) for n in "bc"]
    header = replace(arrays.header, radiance=tuple(f.header.radiance[0] for f in fields))
    sections = [*arrays.sections(0), *fields[0].radiance_sections(0), *fields[1].radiance_sections(0)]
    data = container.dumps(header, sections)
    assert decoding.decompress(data)[0].name == "a"
    assert files.load(data).name == "b"
    assert files.same_model(files.load(data, name="c").model, files.load(data, name="b").model)
    damaged = bytearray(data)
    damaged[-9] ^= 1
    assert files.load(bytes(damaged)).name == "b"  # sections are read when they are needed
    with pytest.raises(FormatError, match="section 3 of radiance field 'c' is damaged"):
        files.load(bytes(damaged), name="c")


def test_the_command_line_says_what_a_file_holds(tmp_path: Path) -> None:
    from test_cli import good, parsed, refused

    path, given = tmp_path / "mic.nvc", volume(sparse(), near=2.0, name="mic")
    path.write_bytes(files.compress(given, "plenoxels", None, CONTEXT).data)
    shown = good("info", path).stdout
    assert all(word in shown for word in ("mic", "plenoxels", "bounded", "occupancy", "sh step"))
    (found,) = parsed("info", path)["radiance"]
    assert (found["near"], found["far"], found["raw_bytes"]) == (2.0, None, given.nbytes)
    assert sum(found["bytes"]["parts"].values()) == sum(found["bytes"]["streams"]) < path.stat().st_size
    assert "radiance export" in refused("decompress", path)


@pytest.mark.parametrize(
    "change",
    [
        {"scene": 3}, {"scene": -1}, {"near": 8.0}, {"near": -1.0}, {"near": float("nan")}, {"background": (1.0, 2.0)},
        {"background": (float("nan"),)}, {"box": (0.0,) * 5}, {"box": (0.0,) * 6}, {"raw_bytes": -1},
        {"sections": (1 << 40,)}, {"sections": (-1,)}, {"codec": 60}, {"codec": 3}, {"params": b""},
    ],
    ids=str,
)  # fmt: skip
def test_records_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    file = Container(files.compress(volume(sparse(), far=7.0), "plenoxels", None, CONTEXT).data)
    record = replace(file.header.radiance[0], **change)
    with pytest.raises(FormatError):
        files.load(container.dumps(Header(radiance=(record,)), tuple(file.radiance_sections(0))))


def test_version_1_with_radiance_and_networks_without_box_are_refused() -> None:
    data = bytearray(files.compress(volume(sparse()), "plenoxels", None, CONTEXT).data)
    file = Container(bytes(data))
    packed = wire.pack(file.header)
    head = container.MAGIC + b"\x01" + wire.write_varint(len(packed)) + packed
    with pytest.raises(FormatError, match="version 1"):
        Container(head + container._crc(head) + bytes(data[len(head) + 4 :]))
    nerf = Container(files.compress(volume(models()["nerf"]), "nerf", None, CONTEXT).data)
    bare = replace(nerf.header.radiance[0], box=())
    without = container.dumps(Header(radiance=(bare,)), tuple(nerf.radiance_sections(0)))
    with pytest.raises(FormatError, match="no box"):
        files.load(without)


# ------------------------------------------------------------------------------------------------------------ damage


def streams(case: str, preset: str) -> tuple[type[RadianceCodec], Encoded]:
    name = case.split("-")[0]
    codec = radiance_codec_by_name(name).from_preset(preset) if preset == "lossless" else quick(name)
    return type(codec), codec.encode(volume(models()[case]), None, CONTEXT)


@pytest.mark.parametrize(
    ("case", "preset"),
    [(c, "balanced") for c in (*CODECS, "plenoxels-background")] + [(c, "lossless") for c in ROUNDING],
)
def test_damaged_streams_give_format_errors_or_a_field(case: str, preset: str) -> None:
    codec, encoded = streams(case, preset)
    rng, refused = random.Random(7), 0
    for i in range(200):
        parts = [encoded.params, *encoded.sections]
        at = rng.randrange(len(parts))
        if i % 3:
            part = bytearray(parts[at])
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
            parts[at] = bytes(part)
        else:
            parts[at] = parts[at][: rng.randrange(len(parts[at]))]
        try:
            with np.errstate(all="ignore"):
                model = codec.decode(Encoded(parts[0], tuple(parts[1:])), CONTEXT)
        except FormatError:
            refused += 1
        else:
            assert isinstance(model, codec.takes)
    assert refused > 20


@pytest.mark.parametrize("case", [*CODECS, "plenoxels-background"])
def test_missing_and_surplus_sections_are_refused(case: str) -> None:
    codec, encoded = streams(case, "balanced")
    for sections in ((), tuple(encoded.sections)[:-1], (*encoded.sections, b"more")):
        with pytest.raises(FormatError):
            codec.decode(replace(encoded, sections=sections), CONTEXT)


def test_few_bytes_cannot_claim_many_symbols() -> None:
    keep, dense = np.ones((4, 4, 4), bool), np.ones((128, 128, 128), bool)
    for attempt in (
        lambda: decode_occupancy(b"1234", (1000, 1000, 1000)),
        lambda: decode_attributes(b"1234", dense, 1000),
        lambda: decode_attributes(b"1234", keep, 1 << 40),
        lambda: decode_indices(b"1234", dense, 1 << 16),
        lambda: decode_indices(b"1234", keep, 1 << 17),
        lambda: decode_floats(b"\0\0\0", dense, 1000),
        lambda: decode_floats(b"\0", keep, 1),
    ):
        with pytest.raises(FormatError):
            attempt()


def test_streams_of_next_to_nothing_are_long_enough_for_their_decoders() -> None:
    assert not decode_occupancy(encode_occupancy(np.zeros((260, 260, 260), bool)), (260, 260, 260)).any()
    keep = np.ones((64, 64, 64), bool)
    zeros = np.zeros((keep.size, 8), np.int32)
    np.testing.assert_array_equal(decode_attributes(encode_attributes(zeros, keep), keep, 8), zeros)
    none = NerfWeights(replace_weights(network(160), 0.0))
    assert files.compress(volume(none), "nerf", None, CONTEXT).lossless


def replace_weights(mlp: NerfMlp, value: float) -> NerfMlp:
    def filled(layer: Dense) -> Dense:
        return Dense(np.full_like(layer.weight, value), np.full_like(layer.bias, value))

    feature = None if mlp.feature is None else filled(mlp.feature)
    return NerfMlp(
        tuple(map(filled, mlp.trunk)), filled(mlp.sigma), filled(mlp.rgb), feature, tuple(map(filled, mlp.views))
    )


# ------------------------------------------------------------------------------------------------------------ coders


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (5, 1, 3), (7, 6, 5), (16, 16, 16)])
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 1])
def test_occupancy_returns(shape: tuple[int, int, int], share: float) -> None:
    keep = np.random.default_rng(1).random(shape) < share
    np.testing.assert_array_equal(decode_occupancy(encode_occupancy(keep), shape), keep)


@pytest.mark.parametrize("most", [1, 5, 1000, LIMIT])
@pytest.mark.parametrize("given", [0, 2])
def test_attributes_return(most: int, given: int) -> None:
    draw = np.random.default_rng(2)
    keep = draw.random((5, 6, 7)) < 0.7
    rows = int(keep.sum())
    written = draw.integers(1 - most, most, (rows, 4))
    known = draw.integers(-9, 9, (rows, given)) if given else None
    np.testing.assert_array_equal(decode_attributes(encode_attributes(written, keep, known), keep, 4, known), written)


def test_what_is_given_and_what_is_near_saves_bytes() -> None:
    draw = np.random.default_rng(2)
    keep = np.ones((16, 16, 16), bool)
    noise = draw.integers(-40, 40, (keep.size, 1))
    alone = len(encode_attributes(noise, keep))
    assert len(encode_attributes(noise, keep, 2 * noise + draw.integers(-1, 2, noise.shape))) < 0.6 * alone
    z, y, x = np.mgrid[:16, :16, :16]
    smooth = np.rint(40 * np.sin(x / 5 + y / 7) * np.cos(z / 6)).astype(int).reshape(-1, 1)
    assert len(encode_attributes(smooth, keep)) < 0.5 * alone


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((5, 2)), np.array([[0.0, -0.0], [1e-45, -1e-45], [1, -1], [3e38, -3e38], [0.1, 0.5]]),
        np.random.default_rng(0).normal(0, 1, (50, 3)) * 10.0 ** np.random.default_rng(1).integers(-38, 38, (50, 3)),
        np.random.default_rng(0).normal(1e30, 1e23, (50, 3)), np.full((9, 1), -1e-45), np.zeros((0, 4)),
    ],
    ids=["zeros", "limits", "wide", "far", "tiny", "none"],
)  # fmt: skip
def test_floats_return_to_the_bit(values: np.ndarray) -> None:
    values = values.astype(np.float32)
    keep = np.arange(max(len(values), 3)).reshape(1, 1, -1) < len(values)
    assert decode_floats(encode_floats(values, keep), keep, values.shape[1]).tobytes() == values.tobytes()


def test_floats_of_few_digits_cost_less() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(0, 0.3, (4096, 3)).astype(np.float32)
    keep = np.ones((16, 16, 16), bool)
    halves = values.astype(np.float16).astype(np.float32)
    assert len(encode_floats(halves, keep)) < 0.55 * len(encode_floats(values, keep))


def test_floats_of_neighbours_cost_next_to_nothing() -> None:
    values = np.random.default_rng(0).normal(0, 1, (1, 2)).astype(np.float32).repeat(4096, 0)
    assert len(encode_floats(values, np.ones((16, 16, 16), bool))) < 400


def test_quantisers_round_to_the_nearest_multiple() -> None:
    values = np.array([-0.26, -0.24, 0, 0.74, 0.76, 100])
    np.testing.assert_array_equal(Quantiser(0.5).quantise(values), [-1, 0, 0, 1, 2, 200])
    np.testing.assert_array_equal(Quantiser(0.5, dead=0.2).quantise(values), [0, 0, 0, 1, 1, 200])
    square = Quantiser(0.5, square=True)
    np.testing.assert_allclose(square.dequantise(square.quantise(np.array([-4.0, 0, 2.25, 0.25]))), [-4, 0, 2.25, 0.25])
    with pytest.raises(InputError, match="too large"):
        Quantiser(1e-9).quantise(values)


# ------------------------------------------------------------------------------------------------------------ golden


def golden() -> dict[str, tuple[RadianceVolume, RadianceCodec]]:
    named = {"near": 2.0, "far": 6.0, "background": (0.0, 0.0, 0.0), "name": "Δ"}
    return {
        "radiance-plenoxels": (volume(sparse(), **named), Plenoxels(6, 5)),
        "radiance-plenoxels-lossless": (volume(sparse((4, 5, 6), True, 0)), Plenoxels()),
        "radiance-dvgo": (volume(direct((4, 6, 7))), Dvgo(7, 6, 8, 1e-2)),
        "radiance-dvgo-lossless": (volume(direct((4, 4, 5), 4)), Dvgo()),
        "radiance-nerf": (volume(NerfWeights(network(), network(8, False, 0.6))), Nerf(7)),
        "radiance-nerf-shared": (volume(files.load(
            files.compress(volume(NerfWeights(network(8, False, 0.6))), Nerf(4, 4)).data
        ).model, **named), Nerf()),
        "radiance-nerf-lossless": (volume(NerfWeights(network(8, False, 0.6))), Nerf()),
    }  # fmt: skip


def values_of(model: RadianceModel) -> dict[str, np.ndarray]:
    """A model's numbers by the names that the golden files give them."""
    if isinstance(model, SparseGrid):
        found = {"keep": model.links != EMPTY, "density": model.density, "sh": model.sh}
        if model.background is not None:
            found["far"] = (model.background.links != EMPTY)[None]
            found["far data"] = model.background.data.reshape(len(model.background.data), -1)
        return found | {"box": model.box.ravel()}
    if isinstance(model, DvgoModel):
        found = {"density": model.density, "features": model.features, "box": np.ravel(model.box)}
        found |= {f"tensor {i}": t for i, t in enumerate(t for layer in model.layers for t in layer)}
        return found if model.mask is None else found | {"mask": model.mask}
    mlps = [mlp for mlp in (model.coarse, model.fine) if mlp is not None]
    weights = [t for mlp in mlps for layer in mlp.layers for t in (layer.weight, layer.bias)]
    return {f"tensor {i}": t for i, t in enumerate(weights)}


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("radiance-*.nvc")))
def test_golden_files_decode_to_their_values(name: str) -> None:
    got = files.load(GOLDEN / f"{name}.nvc")
    with np.load(GOLDEN / f"{name}.npz") as stored:
        values = values_of(got.model)
        assert set(stored) == set(values)
        for key in stored:
            assert values[key].dtype == stored[key].dtype
            assert values[key].tobytes() == stored[key].tobytes()


@pytest.mark.parametrize("name", golden())
def test_the_encoder_still_writes_the_golden_bytes(name: str) -> None:
    given, codec = golden()[name]
    assert files.compress(given, codec, None, CONTEXT).data == (GOLDEN / f"{name}.nvc").read_bytes()


def test_a_stream_of_every_codec_is_golden() -> None:
    held = {Container(p).header.radiance[0].codec for p in GOLDEN.glob("radiance-*.nvc")}
    assert {c.id for n, c in radiance_registry().items() if n not in ELSEWHERE} <= held


def make_golden() -> Iterator[Path]:
    for name, (given, codec) in golden().items():
        path = GOLDEN / f"{name}.nvc"
        if not path.exists():
            path.write_bytes(files.compress(given, codec, None, CONTEXT).data)
            np.savez_compressed(path.with_suffix(".npz"), **values_of(files.load(path).model))  # pyright: ignore
            yield path


def test_records_are_small() -> None:
    file = Container(files.compress(volume(sparse()), "plenoxels", None, CONTEXT).data)
    bare = replace(file.header.radiance[0], params=b"")
    assert len(wire.pack(bare)) < 24
    assert isinstance(bare, RadianceRecord)


if __name__ == "__main__":
    print(*make_golden(), sep="\n")
