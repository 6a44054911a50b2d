"""Networks of NeRF: nerf-pytorch checkpoints, and the original program's ``.npy`` weights.

Mildenhall et al., NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis (ECCV 2020), section 5.1 and
appendix A.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.imports import stand_ins
from neurcomp_core.radiance.imports.checkpoints import array
from neurcomp_core.radiance.imports.npy import read_header


@dataclass(frozen=True, eq=False)
class Dense:
    """``x @ weight.T + bias``: `weight` ``(out, in)``, `bias` ``(out,)``, float32."""

    weight: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise InputError(f"a layer: expected (out, in) and (out,), got {self.weight.shape} and {self.bias.shape}")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weight.T + self.bias


@dataclass(frozen=True, eq=False)
class NerfMlp:
    """One NeRF network.

    Attributes
    ----------
    trunk : tuple of Dense
        ReLU after each. A layer with more inputs than the one before has outputs gets the encoded position, put in
        front, too.
    sigma : Dense
        Density before the ReLU, 1 output.
    rgb : Dense
        Colour before the sigmoid, 3 outputs; on the trunk's output, or on the last of `views`.
    feature : Dense, optional
        Without activation, before `views`.
    views : tuple of Dense
        ReLU after each; the first gets the feature and the encoded direction. Empty: colour ignores the direction.
    """

    trunk: tuple[Dense, ...]
    sigma: Dense
    rgb: Dense
    feature: Dense | None = None
    views: tuple[Dense, ...] = ()

    def __post_init__(self) -> None:
        if not self.trunk:
            raise InputError("a NeRF network needs layers")
        inputs, width = self.trunk[0].weight.shape[1], None
        for layer in self.trunk:
            if width is not None and layer.weight.shape[1] not in (width, width + inputs):
                raise InputError(
                    f"a trunk layer has {layer.weight.shape[1]} inputs; expected {width} or {width + inputs}"
                )
            width = len(layer.weight)
        if self.sigma.weight.shape != (1, width) or len(self.rgb.weight) != 3:
            raise InputError(f"outputs: expected 1 density and 3 colours of {width}, got {self.sigma.weight.shape}")
        if self.views and (self.feature is None or self.feature.weight.shape[1] != width):
            raise InputError("a network with view layers needs a feature layer on its trunk")
        for frequencies in (self.position_frequencies, self.direction_frequencies if self.views else 0):
            if frequencies != int(frequencies) or frequencies < 0:
                raise InputError("the inputs are no positional encoding of three coordinates")

    @property
    def layers(self) -> tuple[Dense, ...]:
        """All layers, in the order of evaluation."""
        feature = () if self.feature is None else (self.feature,)
        return (*self.trunk, self.sigma, *feature, *self.views, self.rgb)

    @property
    def position_frequencies(self) -> float:
        """L of the encoding ``(x, sin(2^0 x), cos(2^0 x), ..., cos(2^(L-1) x))``; positions are in world units."""
        return (self.trunk[0].weight.shape[1] - 3) / 6

    @property
    def direction_frequencies(self) -> float:
        if not self.views or self.feature is None:
            return 0
        return (self.views[0].weight.shape[1] - len(self.feature.weight) - 3) / 6

    def __call__(self, points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density ``(n,)`` and RGB ``(n, 3)``, activated, at points seen along unit directions ``(n, 3)``."""
        position = encode(points, int(self.position_frequencies))
        x = position
        for layer in self.trunk:
            if layer.weight.shape[1] > x.shape[1]:
                x = np.concatenate([position, x], 1)
            x = np.maximum(layer(x), 0)
        sigma = np.maximum(self.sigma(x)[:, 0], 0)
        if self.views and self.feature is not None:
            x = np.concatenate([self.feature(x), encode(directions, int(self.direction_frequencies))], 1)
            for layer in self.views:
                x = np.maximum(layer(x), 0)
        return sigma, 1 / (1 + np.exp(-self.rgb(x)))


@dataclass(frozen=True, eq=False)
class NerfWeights:
    """The coarse network and, where there is one, the fine one."""

    coarse: NerfMlp
    fine: NerfMlp | None = None


def encode(x: np.ndarray, frequencies: int) -> np.ndarray:
    """Positional encoding ``(n, 3 + 6 frequencies)`` of ``(n, 3)`` (eq. 4, without pi, with the input itself)."""
    parts = [x]
    for k in range(frequencies):
        parts += [np.sin(x * 2.0**k), np.cos(x * 2.0**k)]
    return np.concatenate(parts, -1)


def from_checkpoint(checkpoint: Mapping[str, Any], where: str) -> NerfWeights:
    """Networks of a nerf-pytorch checkpoint that `checkpoints.load` has read; FormatError if its layout differs."""
    networks = []
    for key in ("network_fn_state_dict", "network_fine_state_dict"):
        state = checkpoint.get(key)
        if state is None:
            continue
        if not isinstance(state, Mapping):
            raise FormatError(f"'{where}': '{key}' is no table of weights")
        try:
            networks.append(_from_state(state, f"'{where}', {key}"))
        except InputError as error:
            raise FormatError(f"'{where}', {key}: {error}") from None
    return NerfWeights(*networks)


def _from_state(state: Mapping[str, Any], where: str) -> NerfMlp:
    def dense(name: str) -> Dense:
        return Dense(array(state, f"{name}.weight", where), array(state, f"{name}.bias", where))

    def numbered(name: str) -> tuple[Dense, ...]:
        found = sorted(int(m[1]) for key in state if (m := re.fullmatch(rf"{name}\.(\d+)\.weight", str(key))))
        return tuple(dense(f"{name}.{i}") for i in found)

    trunk = numbered("pts_linears")
    if "output_linear.weight" in state:
        return _without_views(trunk, dense("output_linear"))
    return NerfMlp(
        trunk, dense("alpha_linear"), dense("rgb_linear"), dense("feature_linear"), numbered("views_linears")
    )


def _without_views(trunk: tuple[Dense, ...], output: Dense) -> NerfMlp:
    if len(output.weight) < 4:
        raise InputError(f"the output layer has {len(output.weight)} outputs; expected red, green, blue and density")
    return NerfMlp(trunk, Dense(output.weight[3:4], output.bias[3:4]), Dense(output.weight[:3], output.bias[:3]))


# ------------------------------------------------------------------------------------------------- original weights


def load_npy(path: Path) -> NerfWeights:
    """``model_XXXXXX.npy`` of the original program, with ``model_fine_XXXXXX.npy`` if it lies beside it.

    The file is a NumPy array of objects, that is a pickle; it is read by a reader that knows arrays of numbers only.
    Order of the arrays (Keras's): kernel ``(in, out)`` and bias of each trunk layer, then with view directions those
    of feature, view layer, rgb, density; without them those of one output layer.

    Raises
    ------
    FormatError
        If the file is damaged, or holds anything but arrays of numbers in this order.
    """
    fine = path.with_name(re.sub(r"^model_(?=\d)", "model_fine_", path.name))
    networks = [_from_arrays(_object_array(path), path)]
    if fine != path and fine.is_file():
        networks.append(_from_arrays(_object_array(fine), fine))
    return NerfWeights(*networks)


def _from_arrays(arrays: Sequence[np.ndarray], path: Path) -> NerfMlp:
    if len(arrays) < 4 or len(arrays) % 2:
        raise FormatError(f"'{path}': expected pairs of kernels and biases, got {len(arrays)} arrays")
    try:
        layers = [
            Dense(np.ascontiguousarray(kernel.T, np.float32), bias.astype(np.float32))
            for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True)
        ]
        if len(layers[-1].weight) == 1:
            *trunk, feature, view, rgb, sigma = layers
            return NerfMlp(tuple(trunk), sigma, rgb, feature, (view,))
        return _without_views(tuple(layers[:-1]), layers[-1])
    except (InputError, ValueError) as error:
        raise FormatError(f"'{path}': not the weights of a NeRF ({error})") from None


def _object_array(path: Path) -> list[np.ndarray]:
    stream = io.BytesIO(path.read_bytes())
    dtype = read_header(stream, f"'{path}'")[2]
    if dtype != np.dtype(object):
        raise FormatError(f"'{path}' holds one array of {dtype}; expected NeRF's list of kernels and biases")
    try:
        held = stand_ins.plain(_ArraysOnly(stream).load())
    except FormatError as error:
        raise FormatError(f"'{path}': {error}") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise FormatError(f"'{path}' is damaged ({type(error).__name__}: {error})") from error
    arrays = [stand_ins.plain(item) for item in held] if isinstance(held, list) else []
    if not arrays or not all(
        isinstance(a, np.ndarray) and a.dtype.kind == "f" and np.isfinite(a).all() for a in arrays
    ):
        raise FormatError(f"'{path}': expected a list of finite arrays, NeRF's kernels and biases")
    return arrays


# The reader written in Python: the one in C takes memory for memo indices that a file only claims.
class _ArraysOnly(pickle._Unpickler):  # pyright: ignore
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return stand_ins.latin1
        try:
            return stand_ins.NUMPY[module, name]
        except KeyError:
            raise FormatError(f"the file wants to call {module}.{name}; only arrays of numbers are read") from None
