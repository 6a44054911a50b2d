"""Trained models of other programs: files written in their layouts mean here what they mean there, and run no code."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neurcomp_core.errors import FormatError, InputError, NeurCompError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.imports import load
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.imports.nerf import NerfWeights

DRAW = np.random.default_rng(0)


def unit(n: int) -> np.ndarray:
    d = np.random.default_rng(9).standard_normal((n, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


class Evil:
    """What no file may do: run a command when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


# ----------------------------------------------------------------------------------------------------------- svox2


def svox2_arrays(functions: int = 9) -> dict[str, Any]:
    """What svox2's SparseGrid.save writes: links are [x, y, z], rows in any order, with unused ones."""
    draw = np.random.default_rng(1)
    shape, capacity = (4, 5, 6), 80
    links = np.full(shape, -1, np.int32)
    used = draw.random(shape) < 0.5
    links[used] = draw.permutation(capacity)[: used.sum()]
    links[0, 0, 0] = -7  # the CUDA code leaves distances as negative links
    return {
        "radius": np.array([1.0, 1.5, 2.0], np.float32),
        "center": np.array([0.5, 0.0, -1.0], np.float32),
        "links": links,
        "density_data": draw.standard_normal((capacity, 1)).astype(np.float32),
        "sh_data": draw.standard_normal((capacity, 3 * functions)).astype(np.float16),
        "basis_type": np.array(1),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("functions", [1, 4, 9])
def test_svox2(tmp_path: Path, save, functions: int) -> None:
    given = svox2_arrays(functions)
    save(tmp_path / "ckpt.npz", **given)
    grid = load(tmp_path / "ckpt.npz")
    assert isinstance(grid, SparseGrid)
    assert grid.links.shape == (6, 5, 4)
    np.testing.assert_allclose(grid.box, [[-0.5, -1.5, -3], [1.5, 1.5, 1]])
    assert len(grid.density) == np.count_nonzero(given["links"] >= 0)
    assert (grid.links[grid.links != EMPTY] == np.arange(len(grid.density))).all()
    # svox2's world2grid: point * (0.5 / radius) * size + 0.5 * (1 - center / radius) * size - 0.5
    size, radius, center = np.array([4, 5, 6]), given["radius"], given["center"]
    index = np.array([[2, 3, 4], [1, 1, 5], [3, 4, 0], [0, 2, 2]])
    points = (index + 0.5 - 0.5 * (1 - center / radius) * size) / (0.5 / radius * size)
    rows = given["links"][tuple(index.T)]
    expected = np.where(rows >= 0, given["density_data"][rows, 0], 0)
    np.testing.assert_allclose(grid.sample(points)[0], expected, atol=1e-5)
    directions = unit(4)
    basis = spherical_harmonics.basis(directions, grid.degree)
    colors = [given["sh_data"][rows, c * functions : (c + 1) * functions].astype(float) for c in range(3)]
    shown = np.stack([(c * basis).sum(1) for c in colors], -1) * (rows >= 0)[:, None]
    np.testing.assert_allclose(grid.colors(points, directions), np.maximum(shown + 0.5, 0), atol=1e-5)


def test_svox2_older_layout_and_background(tmp_path: Path) -> None:
    given = svox2_arrays()
    both = np.concatenate([given["density_data"], given["sh_data"].astype(np.float32)], 1)
    np.savez(tmp_path / "old.npz", data=both, links=given["links"])
    np.savez(tmp_path / "new.npz", **{**given, "radius": np.ones(3), "center": np.zeros(3)})
    old, new = load(tmp_path / "old.npz"), load(tmp_path / "new.npz")
    assert isinstance(old, SparseGrid)
    assert isinstance(new, SparseGrid)
    np.testing.assert_array_equal(old.density, new.density)
    np.testing.assert_array_equal(old.sh, new.sh)
    np.testing.assert_array_equal(old.box, new.box)
    links = np.arange(32, dtype=np.int32).reshape(8, 4) - 2
    layers = DRAW.standard_normal((30, 5, 4)).astype(np.float32)
    np.savez(tmp_path / "far.npz", **given, background_links=links, background_data=layers)
    far = load(tmp_path / "far.npz")
    assert isinstance(far, SparseGrid)
    assert far.background is not None
    constant = 0.5 / np.sqrt(np.pi)  # svox2 scales colours of the spheres by the constant harmonic
    np.testing.assert_allclose(far.background.data, layers * [constant, constant, constant, 1], rtol=1e-6)
    assert np.count_nonzero(far.background.links == EMPTY) == 2


def test_bad_svox2(tmp_path: Path) -> None:
    file = tmp_path / "ckpt.npz"
    given = svox2_arrays()

    def refused(words: str, error: type[Exception] = FormatError, **change) -> None:
        np.savez(file, **{k: v for k, v in {**given, **change}.items() if v is not None})
        with pytest.raises(error, match=words):
            load(file)

    refused("a learned texture; only spherical harmonics", InputError, basis_type=np.array(4))
    refused("a learned network; only spherical harmonics", InputError, basis_type=np.array(255))
    refused("has no 'links'", links=None)
    refused("'links' is float32 .*; expected numbers in 3", links=given["links"].astype(np.float32)[0])
    refused("'links' is object", links=np.array([[[None]]]))
    refused("links lead to row 99 of 80", links=np.where(given["links"] == given["links"].max(), 99, given["links"]))
    refused(r"expected \(rows, 1\) and \(rows, 3 k\)", density_data=given["density_data"][1:])
    refused(r"expected 1, 4, 9, 16 or 25 functions, got 2", sh_data=given["sh_data"][:, :6])
    refused("'density_data' holds NaN", density_data=given["density_data"] * np.nan)
    refused("expected three numbers, radius positive", radius=-given["radius"])
    np.savez_compressed(file, **given)
    whole = file.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="damaged or no svox2 file"):
            load(file)
    # A header that promises more than the archive holds is refused before memory is taken.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": (1 << 16,) * 3})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("links.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(FormatError, match=r"'links' of shape .* should have"):
        load(file)


def test_files_with_flipped_bits_fail_clearly_or_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **svox2_arrays(1))
    np.save(tmp_path / "b.npy", keras_weights(Nerf(True, 2, 4)), allow_pickle=True)
    checkpoint = dvgo_checkpoint()
    del checkpoint["rgbnet"]
    torch.save(checkpoint, tmp_path / "c.tar")
    draw = np.random.default_rng(0)
    for name, times in (("a.npz", 100), ("b.npy", 200), ("c.tar", 25)):
        whole = (tmp_path / name).read_bytes()
        for _ in range(times):
            damaged = bytearray(whole)
            damaged[draw.integers(len(whole))] ^= 1 << draw.integers(8)
            (tmp_path / name).write_bytes(damaged)
            with contextlib.suppress(NeurCompError):
                load(tmp_path / name)


# ------------------------------------------------------------------------------------------------------------ DVGO


def dvgo_checkpoint(direct: bool = True, depth: int = 3, network: bool = True) -> dict:
    """What DVGO's run.py saves, of a grid (x, y, z) = (5, 4, 6)."""
    torch.manual_seed(3)
    low, high = np.array([-1.0, -0.5, 0.0], np.float32), np.array([1.0, 1.0, 1.25], np.float32)
    channels = 12 if network else 3
    inputs = channels - (0 if direct else 3) + 3 + 6 * 4
    hidden = [nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(depth - 2)]
    rgbnet = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), *hidden, nn.Linear(16, 3))
    state = {
        "xyz_min": torch.tensor(low),
        "xyz_max": torch.tensor(high),
        "act_shift": torch.tensor([-4.5]),
        "density.grid": 5 * torch.randn(1, 1, 5, 4, 6),
        "density.xyz_min": torch.tensor(low),
        "k0.grid": torch.randn(1, channels, 5, 4, 6),
        "mask_cache.mask": torch.rand(3, 4, 5) > 0.5,
        "mask_cache.xyz2ijk_scale": torch.ones(3),
    }
    if network:
        state["viewfreq"] = torch.tensor([1.0, 2, 4, 8])
        state.update({f"rgbnet.{k}": v for k, v in rgbnet.state_dict().items()})
    settings = {
        "xyz_min": low, "xyz_max": high, "num_voxels": 120, "num_voxels_base": 64, "alpha_init": 1e-2,
        "voxel_size_ratio": torch.tensor(0.8109), "mask_cache_path": None, "mask_cache_thres": 1e-3,
        "mask_cache_world_size": [3, 4, 5], "fast_color_thres": np.float64(1e-4), "density_type": "DenseGrid",
        "k0_type": "DenseGrid", "density_config": {}, "k0_config": {}, "rgbnet_dim": channels if network else 0,
        "rgbnet_direct": direct, "rgbnet_full_implicit": False, "rgbnet_depth": depth, "rgbnet_width": 16,
        "viewbase_pe": 4,
    }  # fmt: skip
    weight = nn.Parameter(torch.zeros(2))
    return {
        "global_step": 20000,
        "model_kwargs": settings,
        "model_state_dict": state,
        "optimizer_state_dict": torch.optim.Adam([weight]).state_dict(),
        "rgbnet": rgbnet,  # for the test; taken out before saving
    }


@pytest.mark.parametrize(("direct", "depth", "network"), [(True, 3, True), (False, 4, True), (False, 3, False)])
def test_dvgo(tmp_path: Path, direct: bool, depth: int, network: bool) -> None:
    checkpoint = dvgo_checkpoint(direct, depth, network)
    rgbnet = checkpoint.pop("rgbnet")
    torch.save(checkpoint, tmp_path / "fine_last.tar")
    model = load(tmp_path / "fine_last.tar")
    assert isinstance(model, DvgoModel)
    state = checkpoint["model_state_dict"]
    assert model.density.shape == (6, 4, 5)
    assert model.mask is not None
    np.testing.assert_array_equal(model.mask, state["mask_cache.mask"].numpy().transpose(2, 1, 0))
    low, high = state["xyz_min"], state["xyz_max"]
    points = low + (high - low) * torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    directions = torch.from_numpy(unit(200)).float()
    # Torch's own trilinear sampling, its last coordinate first, with samples on the faces.
    where = (2 * (points - low) / (high - low) - 1).flip(-1).reshape(1, 1, 1, -1, 3)

    def interpolated(grid: torch.Tensor) -> torch.Tensor:
        return nn.functional.grid_sample(grid, where, align_corners=True).reshape(grid.shape[1], -1).T

    voxel = float(((high - low).prod() / 120) ** (1 / 3))
    ratio = float((64 / 120) ** (1 / 3))
    step = 0.5
    alpha = 1 - torch.exp(-nn.functional.softplus(interpolated(state["density.grid"])[:, 0] - 4.5) * step * ratio)
    # Known free space by the mask's nearest sample, as its MaskGrid looks it up.
    i, j, k = torch.round((points - low) / (high - low) * (torch.tensor([3, 4, 5]) - 1)).long().T
    alpha = alpha * state["mask_cache.mask"][i, j, k]
    density, _ = model.sample(points.double().numpy())
    np.testing.assert_allclose(1 - np.exp(-density * step * voxel), alpha, atol=1e-5)
    features = interpolated(state["k0.grid"])
    waves = (directions[..., None] * torch.tensor([1.0, 2, 4, 8])).flatten(-2)
    seen = torch.cat([features if direct else features[:, 3:], directions, waves.sin(), waves.cos()], -1)
    with torch.no_grad():
        color = torch.sigmoid(features if not network else rgbnet(seen) + (0 if direct else features[:, :3]))
    np.testing.assert_allclose(model.colors(points.double().numpy(), directions.double().numpy()), color, atol=1e-5)
    assert model.sample(np.array([[5.0, 5, 5]]))[0] == 0


def rewritten(path: Path, change) -> None:
    """Edit the pickle inside a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


def test_dvgo_files_of_older_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = dvgo_checkpoint()
    del checkpoint["rgbnet"]
    torch.save(checkpoint, tmp_path / "new.tar")
    state, settings = checkpoint["model_state_dict"], checkpoint["model_kwargs"]
    # Of 2021: grids without a class of their own, the shift not stored, NumPy 1's module names.
    for key in ("act_shift", "mask_cache.mask", "xyz_min", "xyz_max"):
        del state[key]
    state["density"], state["k0"] = state.pop("density.grid"), state.pop("k0.grid")
    settings["alpha_init"] = 1 / (1 + np.exp(4.5))  # as the shift: log(1 / (1 - alpha) - 1) = -4.5
    settings["alpha_init"] = 1 - 1 / (1 + np.exp(-4.5))
    # mmcv's configuration: a dictionary that pickles itself as its own state.
    module = types.ModuleType("mmcv.utils.config")

    class ConfigDict(dict):
        def __getstate__(self):
            return self

        def __setstate__(self, state):
            self.update(state)

    ConfigDict.__module__, ConfigDict.__qualname__ = "mmcv.utils.config", "ConfigDict"
    module.ConfigDict = ConfigDict  # pyright: ignore
    for name in ("mmcv", "mmcv.utils", "mmcv.utils.config"):
        monkeypatch.setitem(sys.modules, name, module)
    settings["density_config"] = ConfigDict()
    torch.save(checkpoint, tmp_path / "old.tar")
    torch.save(checkpoint, tmp_path / "legacy.tar", _use_new_zipfile_serialization=False)
    monkeypatch.undo()
    rewritten(tmp_path / "old.tar", lambda data: data.replace(b"numpy._core.", b"numpy.core."))
    new = load(tmp_path / "new.tar")
    for name in ("old.tar", "legacy.tar"):
        old = load(tmp_path / name)
        assert isinstance(new, DvgoModel)
        assert isinstance(old, DvgoModel)
        np.testing.assert_array_equal(old.density, new.density)
        np.testing.assert_array_equal(old.box, new.box)
        assert (old.shift, old.unit, old.mask) == (pytest.approx(new.shift), new.unit, None)


def test_bad_dvgo(tmp_path: Path) -> None:
    file = tmp_path / "ckpt.tar"

    def refused(words: str, error: type[Exception], change) -> None:
        checkpoint = dvgo_checkpoint()
        del checkpoint["rgbnet"]
        change(checkpoint["model_state_dict"], checkpoint["model_kwargs"])
        torch.save(checkpoint, file)
        with pytest.raises(error, match=words) as caught:
            load(file)
        assert "\n" not in str(caught.value)

    refused("unbounded .contracted. model; only its bounded", InputError, lambda s, k: k.update(contracted_norm="inf"))
    refused("forward-facing .multi-plane. model", InputError, lambda s, k: k.update(mpi_depth=128))
    refused("not TensoRF's", InputError, lambda s, k: k.update(density_type="TensoRFGrid"))
    refused("'density' is missing or no array", FormatError, lambda s, k: s.pop("density.grid"))
    refused("expected .1, channels, x, y, z.", FormatError, lambda s, k: s.update({"k0.grid": torch.ones(3)}))
    refused(
        "features: expected .6, 4, 5. and channels",
        FormatError,
        lambda s, k: s.update({"k0.grid": torch.ones(1, 12, 3, 3, 3)}),
    )
    refused("holds NaN", FormatError, lambda s, k: s["density.grid"].fill_(torch.nan))
    refused(
        "layer 0 of the network: expected 39 inputs",
        FormatError,
        lambda s, k: s.update({"rgbnet.0.weight": torch.ones(16, 9)}),
    )
    refused("'num_voxels_base' is missing", FormatError, lambda s, k: k.pop("num_voxels_base"))
    refused("a low and a higher corner", FormatError, lambda s, k: s.update(xyz_max=-torch.ones(3)))
    mark = tmp_path / "executed"
    torch.save({"model_state_dict": {}, "model_kwargs": Evil(mark)}, file)
    with pytest.raises(FormatError, match=r"calls (posix|nt)\.mkdir; only tensors"):
        load(file)
    assert not mark.exists()
    torch.save({"something": 1}, file)
    with pytest.raises(FormatError, match="got the keys something"):
        load(file)
    torch.save([1, 2], file)
    with pytest.raises(FormatError, match="expected a dictionary of weights, got list"):
        load(file)
    torch.save(dvgo_checkpoint()["model_state_dict"], file)
    whole = file.read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            load(file)
    with pytest.raises(InputError, match="does not exist; give a trained model's file"):
        load(tmp_path / "none.tar")


# ------------------------------------------------------------------------------------------------------------ NeRF


class Nerf(nn.Module):
    """A network of nerf-pytorch's names and layout; 6 frequencies of the position, 2 of the direction."""

    def __init__(self, views: bool, depth: int = 5, width: int = 16) -> None:
        super().__init__()
        self.skip = 2
        inputs = [39] + [width + 39 if i == self.skip else width for i in range(depth - 1)]
        self.pts_linears = nn.ModuleList(nn.Linear(n, width) for n in inputs)
        self.views_linears = nn.ModuleList([nn.Linear(15 + width, width // 2)])
        if views:
            self.feature_linear = nn.Linear(width, width)
            self.alpha_linear = nn.Linear(width, 1)
            self.rgb_linear = nn.Linear(width // 2, 3)
        else:
            self.output_linear = nn.Linear(width, 5)

    def forward(self, position: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        h = position
        for i, layer in enumerate(self.pts_linears):
            h = layer(h).relu()
            if i == self.skip:
                h = torch.cat([position, h], -1)
        if not hasattr(self, "rgb_linear"):
            return self.output_linear(h)[:, :4]
        seen = self.views_linears[0](torch.cat([self.feature_linear(h), direction], -1)).relu()
        return torch.cat([self.rgb_linear(seen), self.alpha_linear(h)], -1)


def encoded(x: torch.Tensor, frequencies: int) -> torch.Tensor:
    return torch.cat([x] + [f(2.0**k * x) for k in range(frequencies) for f in (torch.sin, torch.cos)], -1)


def assert_same(network, reference: Nerf) -> None:
    points = np.random.default_rng(2).uniform(-2, 2, (50, 3)).astype(np.float32)
    directions = unit(50).astype(np.float32)
    with torch.no_grad():
        out = reference(encoded(torch.from_numpy(points), 6), encoded(torch.from_numpy(directions), 2))
    sigma, rgb = network(points, directions)
    np.testing.assert_allclose(sigma, out[:, 3].relu(), atol=1e-4)
    np.testing.assert_allclose(rgb, out[:, :3].sigmoid(), atol=1e-4)


@pytest.mark.parametrize("views", [True, False])
def test_nerf_pytorch(tmp_path: Path, views: bool) -> None:
    torch.manual_seed(0)
    coarse, fine = Nerf(views), Nerf(views)
    checkpoint = {
        "global_step": 200000,
        "network_fn_state_dict": coarse.state_dict(),
        "network_fine_state_dict": fine.state_dict(),
        "optimizer_state_dict": torch.optim.Adam(coarse.parameters()).state_dict(),
    }
    torch.save(checkpoint, tmp_path / "200000.tar")
    weights = load(tmp_path / "200000.tar")
    assert isinstance(weights, NerfWeights)
    assert weights.fine is not None
    assert_same(weights.coarse, coarse)
    assert_same(weights.fine, fine)
    assert weights.coarse.position_frequencies == 6
    assert weights.coarse.direction_frequencies == (2 if views else 0)
    del checkpoint["network_fine_state_dict"]
    checkpoint["network_fn_state_dict"]["pts_linears.1.weight"] = torch.ones(16, 17)
    torch.save(checkpoint, tmp_path / "bad.tar")
    with pytest.raises(FormatError, match="a trunk layer has 17 inputs; expected 16 or 55"):
        load(tmp_path / "bad.tar")


def keras_weights(network: Nerf) -> np.ndarray:
    """What get_weights of the original's model gives: kernels (in, out) and biases."""
    layers = list(network.pts_linears)
    if hasattr(network, "rgb_linear"):
        layers += [network.feature_linear, network.views_linears[0], network.rgb_linear, network.alpha_linear]
    else:
        layers.append(network.output_linear)
    out = np.empty(2 * len(layers), object)
    for i, layer in enumerate(layers):
        assert isinstance(layer, nn.Linear)
        out[2 * i], out[2 * i + 1] = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    return out


@pytest.mark.parametrize("views", [True, False])
def test_original_nerf_weights(tmp_path: Path, views: bool) -> None:
    torch.manual_seed(1)
    coarse, fine = Nerf(views), Nerf(views)
    np.save(tmp_path / "model_200000.npy", keras_weights(coarse), allow_pickle=True)
    weights = load(tmp_path / "model_200000.npy")
    assert isinstance(weights, NerfWeights)
    assert weights.fine is None
    # The fine network as NumPy 1 under Python 3.7 wrote it.
    body = pickle.dumps(keras_weights(fine), protocol=3).replace(b"numpy._core.", b"numpy.core.")
    header = io.BytesIO()
    shape = (len(keras_weights(fine)),)
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": shape})
    (tmp_path / "model_fine_200000.npy").write_bytes(header.getvalue() + body)
    weights = load(tmp_path / "model_200000.npy")
    assert isinstance(weights, NerfWeights)
    assert weights.fine is not None
    assert_same(weights.coarse, coarse)
    assert_same(weights.fine, fine)


def test_bad_original_weights(tmp_path: Path) -> None:
    file = tmp_path / "model_000001.npy"
    good = keras_weights(Nerf(True))
    mark = tmp_path / "executed"

    def refused(value: object, words: str) -> None:
        if isinstance(value, bytes):
            file.write_bytes(value)
        else:
            np.save(file, np.asarray(value), allow_pickle=True)
        with pytest.raises(FormatError, match=words):
            load(file)

    evil = good.copy()
    evil[3] = Evil(mark)
    refused(evil, r"wants to call (posix|nt)\.mkdir; only arrays of numbers are read")
    assert not mark.exists()
    refused(good[:-1], "expected pairs of kernels and biases, got 17 arrays")
    refused(good[2:], "not the weights of a NeRF")
    refused(np.ones((3, 3)), "holds one array of float64; expected NeRF's list")
    lists = good.copy()
    lists[0] = [1, 2]
    refused(lists, "expected a list of finite arrays")
    empty = good.copy()
    empty[0] = good[0] * np.nan
    refused(empty, "expected a list of finite arrays")
    np.save(file, good, allow_pickle=True)
    whole = file.read_bytes()
    for cut in (0, 5, 60, 140, len(whole) // 2, len(whole) - 3):
        refused(whole[:cut], "damaged|no NumPy array|without its")
    # A shape whose bytes are not there.
    lying = pickle.dumps(np.zeros(8), protocol=2).replace(b"K\x08\x85", b"J\xff\xff\xff\x7f\x85")
    refused(whole[:128] + lying, "without its 17179869176 bytes")
