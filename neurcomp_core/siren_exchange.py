"""Networks of the 2021 reference as ``.nvc`` files of the codec ``siren``, and back.

The reference's files say nothing of their volume: its shape and range come from the volume itself or from the user. An
imported network is stored as the codec stores its own, every array rounded to multiples of its own step, as finely as
a stated precision asks for; that takes fewer bytes than the codebooks it came with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import container, metrics
from neurcomp_core.codec import Context, Encoded, measured
from neurcomp_core.codecs.siren import DEEPEST, WIDEST, Siren, SirenRecord, check, network_of
from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, ArraySpec, Container, Header
from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Field
from neurcomp_core.nets import siren as net_module
from neurcomp_core.nets import siren_kernels as kernels
from neurcomp_core.nets import siren_model as model
from neurcomp_core.nets.model import step_codes, steps_of
from neurcomp_core.nets.siren import Siren as Net
from neurcomp_core.residual import parts

#: Decibels below the range that rounding may change outputs by, where the volume is not at hand: a network of 50 dB
#: loses 0.004 dB by it.
PRECISION = 80.0
#: The same above the network's own PSNR, where the volume is; should that change by more dB, in finer and finer steps.
_HEADROOM, _CHANGE, _FINER = 30.0, 0.008, 3.0
#: Float outputs are not exacter than this.
_FINEST = 100.0
#: Samples that precision is measured on.
_SAMPLES = 1 << 14
#: Of outputs, which have a range of 2.
_RANGE = 2.0


@dataclass(frozen=True)
class Imported:
    """A network as a ``.nvc`` file.

    Attributes
    ----------
    data : bytes
        Of the file.
    precision : float
        Change of the outputs by rounding, in dB below the range.
    quality : Quality, optional
        Measured on the decoded file, if the volume is at hand.
    """

    data: bytes
    precision: float
    quality: metrics.Quality | None


def import_network(
    net: Net,
    parameters: Sequence[np.ndarray],
    like: Field,
    limits: tuple[float, float],
    compare: bool = True,
    exact: bool = False,
    context: Context | None = None,
) -> Imported:
    """The file of a network that stands for a volume.

    Parameters
    ----------
    net : Net
    parameters : sequence of ndarray
        See `siren_file.read`. Inputs are z, y, x; outputs run from -1 to 1.
    like : Field
        Grid, name, type and, to `compare` with, values of the volume.
    limits : tuple of float
        Values that -1 and 1 stand for.
    compare : bool
        Whether the values of `like` are the volume's, which the file's quality is then measured against.
    exact : bool
        Whether the parameters are stored as they are, four bytes each.
    context : Context, optional

    Raises
    ------
    InputError
        If the network does not fit the volume or is larger than the codec takes.
    """
    context = context or Context()
    spec = ArraySpec(like.values.shape, like.values.dtype)
    outputs = spec.shape[3] if len(spec.shape) == 4 else 1
    if net.outputs != outputs or net.inputs != 3:
        raise InputError(
            f"the network has {net.inputs} inputs and {net.outputs} outputs; a volume with {outputs} components "
            f"needs 3 and {outputs}"
        )
    if net.width > WIDEST or net.layers > DEEPEST:
        raise InputError(
            f"the network has {net.layers} layers of {net.width}; the codec siren takes at most {DEEPEST} of {WIDEST}"
        )
    low, high = limits
    if not (math.isfinite(high - low) and high > low):
        raise InputError(f"range: expected two finite values, the smaller first, got {low:g} and {high:g}")
    record = SirenRecord(
        width=net.width,
        layers=net.layers,
        omega=net.omega,
        plain=not net.residual,
        centre=(low + high) / 2,
        scale=(high - low) / 2,
    )
    # Along a flat axis the coordinate is 0, and the codec's network does not have it.
    kept = [p.copy() for p in parameters]
    kept[0] = kept[0][:, model.varying(spec.shape[:3])]
    net = network_of(record, spec)
    encoded, precision, quality = _floats(net, kept, record, spec.shape[:3]), math.inf, None
    if compare:
        quality = measured(Siren, encoded, like, context)
    if not exact:
        goal = PRECISION if quality is None else max(quality.psnr, 0.0) + _HEADROOM
        while goal < _FINEST and precision == math.inf:
            found = _rounded(net, kept, record, spec.shape[:3], goal)
            now = measured(Siren, found[0], like, context) if found and quality is not None else None
            if found and (now is None or quality is None or abs(now.psnr - quality.psnr) <= _CHANGE):
                (encoded, precision), quality = found, now
            goal += _FINER
    return Imported(_file(encoded, like, quality), precision, quality)


def precision_of(
    net: Net, parameters: Sequence[np.ndarray], others: Sequence[np.ndarray], shape: Sequence[int]
) -> float:
    """How far outputs under other parameters are off, in dB below the range; infinite if they are not.

    Measured on random samples of a volume of `shape` (z, y, x); `net` has three inputs, or one per longer axis.
    """
    points = _points(net, shape, np.random.default_rng(0))
    return _precision(_values(net, parameters, points), _values(net, others, points))


def export_network(file: Container, index: int) -> tuple[Net, list[np.ndarray], tuple[float, float]]:
    """The network of an array of a ``.nvc`` file as the reference has it: three inputs, outputs from -1 to 1.

    Returns
    -------
    net : Net
    parameters : list of ndarray
        Float32.
    limits : tuple of float
        Values that -1 and 1 stand for, which the reference's files do not hold.

    Raises
    ------
    InputError
        If the array is not one of the codec ``siren``.
    FormatError
        If its stream is damaged.
    """
    array, spec = file.header.arrays[index], file.spec(index)
    if array.codec != Siren.id:
        raise InputError(
            f"{file.name}: array '{array.name}' was not compressed with the codec siren, whose networks alone have the "
            "reference's layout; compress it with --codec siren"
        )
    special = int(array.special)
    sections = tuple(file.section(index, s) for s in range(special, len(array.sections)))
    network, _ = parts(SirenRecord, Encoded(array.params, sections))
    record, (section,) = wire.unpack(SirenRecord, network.params), network.sections
    check(record, spec, len(section))
    net = network_of(record, spec)
    if record.codes:
        parameters = model.unpack(net, section, steps_of(record.step, record.codes))
    else:
        parameters = model.unpack_floats(net, section)
    first = np.zeros((net.width, 3), np.float32)
    first[:, model.varying(spec.shape[:3])] = parameters[0]
    ends = record.centre - record.scale, record.centre + record.scale
    return replace(net, inputs=3), [first, *parameters[1:]], ends


# ------------------------------------------------------------------------------------------------------------ rounding


def _rounded(
    net: Net, parameters: Sequence[np.ndarray], record: SirenRecord, shape: Sequence[int], goal: float
) -> tuple[Encoded, float] | None:
    """The coarsest stream whose rounding changes outputs by at most `goal` dB below the range, and by how much it does;
    None if there is none.
    """
    rng = np.random.default_rng(0)
    points = _points(net, shape, rng)
    exact = _values(net, parameters, points)
    codes = step_codes(tolerances(net, parameters, points[: _SAMPLES >> 3], rng))
    step, best = 2.0**-8, None
    for _ in range(12):
        step = float(np.float32(step))
        steps = steps_of(step, codes)
        section = model.pack(net, parameters, steps)
        rounded = model.unpack(net, section, steps)
        reached = _precision(exact, _values(net, rounded, points))
        if reached >= goal:
            margin = _margin(net, rounded, points)
            best = _encoded(replace(record, step=step, margin=margin), section, codes), reached
            if reached < goal + 0.5 or reached == math.inf:
                return best
        # The error follows the step about, so a little beyond; and never so far that all is rounded to zero.
        step *= 10 ** (min(max(reached - goal - 0.25, -40), 40) / 20)
    return best


def _points(net: Net, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Random samples of the lattice, ``(n, inputs)``."""
    axes = net_module.axis_coordinates(shape)
    inputs = model.varying(shape) if net.inputs < 3 else [0, 1, 2]
    return np.stack([axes[a][rng.integers(0, shape[a], _SAMPLES)] for a in inputs], axis=1)


def _values(net: Net, parameters: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Outputs ``(n, outputs)`` as a decoder computes them."""
    out = np.zeros((model.padded(net.outputs), len(points)), np.float32)
    kernels.values(model.points_of(net, list(points.T)), *model.fold(net, parameters).args, out, 1)
    return out[: net.outputs].T


def _precision(exact: np.ndarray, other: np.ndarray) -> float:
    return metrics.psnr(_RANGE, float(np.sqrt(np.mean((other.astype(np.float64) - exact) ** 2))))


def tolerances(net: Net, parameters: Sequence[np.ndarray], points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change of each array's values, in a common unit, that changes outputs as much as that of any other.

    Measured: every array in turn is disturbed a little, by noise as its rounding would be.

    Parameters
    ----------
    net : Net
    parameters : sequence of ndarray
    points : ndarray
        ``(n, inputs)`` float32.
    rng : Generator

    Returns
    -------
    ndarray
        ``(arrays,)``; steps in this proportion are worth their bits everywhere.
    """
    exact, found = _values(net, parameters, points), []
    for i, p in enumerate(parameters):
        amount = np.float32(1e-3 * max(float(np.sqrt(np.mean(p.astype(np.float64) ** 2))), 1e-3))
        disturbed = list(parameters)
        disturbed[i] = p + amount * rng.uniform(-1, 1, p.shape).astype(np.float32)
        change = float(np.sqrt(np.mean((_values(net, disturbed, points) - exact).astype(np.float64) ** 2)))
        # Of all of an array's values together; rounding costs bits for each.
        found.append(float(amount) * math.sqrt(p.size) / max(change, 1e-12))
    return np.array(found)


def _margin(net: Net, parameters: Sequence[np.ndarray], points: np.ndarray) -> int:
    """Exponent of what float32 leaves open: 16 times what it was seen to, against float64."""
    points = points[: _SAMPLES >> 2]
    single = _values(net, parameters, points)
    double = net_module.forward(net, [p.astype(np.float64) for p in parameters], points.astype(np.float64))
    worst = max(float(np.abs(double - single).max()), 2.0**-30)
    return min(max(math.floor(-math.log2(16 * worst)), 2), 14)


def _floats(net: Net, parameters: Sequence[np.ndarray], record: SirenRecord, shape: Sequence[int]) -> Encoded:
    """The stream of the parameters as they are."""
    margin = _margin(net, parameters, _points(net, shape, np.random.default_rng(0)))
    return _encoded(replace(record, margin=margin), model.pack_floats(parameters), b"")


def _encoded(record: SirenRecord, section: bytes, codes: bytes) -> Encoded:
    return Encoded(wire.pack(replace(record, codes=codes)), (section,))


def _file(encoded: Encoded, like: Field, quality: metrics.Quality | None) -> bytes:
    record = ArrayRecord(
        sections=tuple(map(len, encoded.sections)),
        name=like.name,
        association=("point", "cell").index(like.association),
        dtype=DTYPES.index(like.values.dtype.name),
        components=like.values.shape[3] if like.values.ndim == 4 else 0,
        time=like.time,
        codec=Siren.id,
        params=encoded.params,
        psnr=None if quality is None else float(np.float32(quality.psnr)),
        max_error=None if quality is None else float(np.float32(quality.max_error)),
    )
    return container.dumps(Header((container.geometry_record(like.geometry),), (record,)), encoded.sections)
