"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from neurcomp_cli.console import reporting
from neurcomp_core.codec import Codec, registry
from neurcomp_core.errors import InputError
from neurcomp_core.field import Region
from neurcomp_core.files import checked_path
from neurcomp_core.init_file import Init
from neurcomp_core.nets.backends import NAMES
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Bytes, L2Error, MaxError, Psnr, Ratio, RelativeError, Rmse, Target

_READING = "Reading files without a full header"

Arrays = Annotated[list[str] | None, typer.Option("--array", metavar="NAME", help="Only this array; repeatable.")]
Dims = Annotated[
    str | None,
    typer.Option(metavar="X,Y,Z", help="Raw files: samples along x, y, z (,components).", rich_help_panel=_READING),
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="Raw files: float32, uint8, >i2 (big-endian) …", rich_help_panel=_READING),
]
Dataset = Annotated[
    str | None, typer.Option(metavar="/PATH", help="HDF5 files: the dataset to read.", rich_help_panel=_READING)
]
FillValue = Annotated[
    float | None,
    typer.Option(metavar="VALUE", help="Samples of this value are no data.", rich_help_panel=_READING),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an output file that exists.")]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads; all by default.")]
Start = Annotated[
    Path | None,
    typer.Option("--init", metavar="FILE.nvi", help="The start that arrays are stored as differences to, if any."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute; auto takes CUDA if present.")]
Backend = Annotated[
    str, typer.Option(metavar="|".join(NAMES), help="What computes networks; auto takes the fastest that is there.")
]


def add(app: typer.Typer, command: Callable[..., None], *examples: str, **settings: Any) -> None:
    """Register a command: its docstring is the help, which ends with `examples`, one per line.

    `settings` are ``typer.Typer.command``'s.
    """
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    # The terminal wraps the help, not the source code.
    text = [" ".join(p.split()) for p in paragraphs]
    if examples:
        # \b keeps the lines that follow as they are; in an epilog, older typer would join them.
        text.append("\n".join(["\b", "Examples:", *(f"  {line}" for line in examples)]))
    app.command(help="\n\n".join(text), **settings)(reporting(command))


def whole_numbers(text: str, option: str, count: range) -> tuple[int, ...]:
    """Positive whole numbers separated by commas or ``x``.

    Raises
    ------
    InputError
        If they are not, or not as many as `count` allows.
    """
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) not in count or not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        many = f"{count.start} to {count.stop - 1}" if len(count) > 1 else f"{count.start}"
        raise InputError(f"{option}: expected {many} positive whole numbers like 64,64,32, got '{text}'")
    return tuple(int(p) for p in parts)


def target_of(
    ratio: float | None,
    size: int | None,
    psnr: float | None,
    max_error: float | None,
    relative_error: float | None,
    rmse: float | None = None,
    l2_error: float | None = None,
) -> Target:
    """The one target a user gave.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    given = (
        (Ratio, "--ratio", ratio),
        (Bytes, "--bytes", size),
        (Psnr, "--psnr", psnr),
        (MaxError, "--max-error", max_error),
        (RelativeError, "--relative-error", relative_error),
        (Rmse, "--rmse", rmse),
        (L2Error, "--l2-error", l2_error),
    )
    chosen = [(kind, value) for kind, _, value in given if value is not None]
    if len(chosen) != 1:
        got = " and ".join(name for _, name, value in given if value is not None) or "none"
        raise InputError(
            f"give exactly one target of {', '.join(name for _, name, _ in given[:-1])} or {given[-1][1]}; got {got}"
        )
    kind, value = chosen[0]
    return kind(value)


def settings_of(codec: type[Codec], texts: list[str] | None) -> dict[str, Any]:
    """Codec parameters from ``key=value`` texts, in the types the codec's dataclass declares.

    Raises
    ------
    InputError
        If a text has no ``=``, names no parameter, or its value is of another type.
    """
    hints = get_type_hints(codec)
    return settings_in({f.name: hints[f.name] for f in fields(codec)}, f"codec {codec.name}", texts)


def settings_in(
    known: Mapping[str, Any], label: str, texts: Sequence[str] | None, option: str = "--set"
) -> dict[str, Any]:
    """`settings_of` any parameters: `known` has their types by name, and errors call their owner `label`."""
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option}: expected KEY=VALUE like steps=3000, got '{text}'")
        if name not in known:
            listing = ", ".join(known) or "none at all"
            raise InputError(f"{option}: {label} has no parameter '{name}'; it has: {listing}")
        found[name] = _parse(value, known[name], f"{option} {name}")
    return found


def residual_of(codec: type[Codec], wanted: bool) -> dict[str, Any]:
    """The codec parameter that ``--residual`` stands for.

    Raises
    ------
    InputError
        If the codec is no network.
    """
    if wanted and not issubclass(codec, NetworkCodec):
        networks = ", ".join(name for name, known in sorted(registry().items()) if issubclass(known, NetworkCodec))
        raise InputError(f"--residual: expected --codec with a network ({networks}), got {codec.name}")
    return {"residual": True} if wanted else {}


def parameters_of(codec: type[Codec], **given: float | None) -> dict[str, Any]:
    """The codec parameters that options of their own stand for, where they are given.

    Raises
    ------
    InputError
        If the codec has no such parameter.
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name in found:
        if name not in {f.name for f in fields(codec)}:
            able = [known.name for known in registry().values() if name in {f.name for f in fields(known)}]
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option}: expected --codec {' or '.join(sorted(able))}, got {codec.name}")
    return found


def checkpoint_of(codec: type[Codec], path: Path | None) -> Path | None:
    """The file that ``--checkpoint`` names.

    Raises
    ------
    InputError
        If the codec trains nothing, or the file cannot be written.
    """
    if path is None:
        return None
    if not issubclass(codec, NetworkCodec) and codec.name != "auto":
        networks = ", ".join(name for name, known in sorted(registry().items()) if issubclass(known, NetworkCodec))
        raise InputError(f"--checkpoint: expected --codec with a network ({networks}), got {codec.name}")
    return checked_path(path)


def init_of(codec: type[Codec], path: Path | None) -> Init | None:
    """The start that ``--init`` names, for a codec that trains hash grids.

    Raises
    ------
    InputError, FormatError
        If the codec trains none, or the file cannot be read or is no start.
    """
    if path is None:
        return None
    if codec.name not in ("hashgrid", "auto"):
        raise InputError(f"--init: expected --codec hashgrid or auto, got {codec.name}")
    return Init.read(path)


def _parse(text: str, hint: Any, name: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_parse(part.strip(), get_args(hint)[0], name) for part in text.split(",") if part.strip())
    types = get_args(hint) or (hint,)
    if type(None) in types and text.lower() in ("none", "auto"):
        return None
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    for kind, what in ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "a text")):
        if kind not in types:
            continue
        try:
            if kind is bool:
                return words[text.lower()]
            if kind is int and float in types and not text.lstrip("+-").isdecimal():
                continue
            return kind(text)
        except (ValueError, KeyError):
            raise InputError(f"{name}: expected {what}, got '{text}'") from None
    raise InputError(f"{name}: this parameter cannot be set from the command line")


def region_of(text: str, shape: tuple[int, ...]) -> Region:
    """The box z, y, x that ``x0:x1,y0:y1,z0:z1`` means in an array of `shape` (z, y, x).

    Samples are counted from 0, the last one is not included, ``:`` is the whole axis and a single number one layer.

    Raises
    ------
    InputError
        If the text is no box, or the box is empty or reaches outside.
    """
    parts = [p.strip() for p in text.split(",")]
    if len(parts) != 3:
        raise InputError(f"--region: expected x0:x1,y0:y1,z0:z1 like 0:32,:,10:20, got '{text}'")
    box = []
    for part, axis, n in zip(parts, "xyz", shape[2::-1], strict=True):
        low, colon, high = part.partition(":")
        try:
            start = int(low or 0)
            stop = int(high or n) if colon else start + 1
        except ValueError:
            raise InputError(f"--region: {axis}: expected first:end like 10:20, got '{part}'") from None
        if (not colon and not low) or not 0 <= start < stop <= n:
            raise InputError(f"--region: {axis}: expected first:end within 0:{n} and not empty, got '{part}'")
        box.append(slice(start, stop))
    return box[2], box[1], box[0]


def numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas.

    Raises
    ------
    InputError
        If they are not.
    """
    try:
        return [float(p) for p in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: expected numbers like 2,4,8, got '{text}'") from None


def path_for(source: Path, out: Path | None, suffix: str) -> Path:
    """Where a result of `source` goes: `out`, a file in the folder `out`, or beside `source`."""
    name = source.name[:-7] if source.name.lower().endswith(".nii.gz") else source.stem
    if out is None:
        return source.with_name(name + suffix)
    return out / (name + suffix) if out.is_dir() else out
