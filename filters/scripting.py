"""What programs for pvpython and pvbatch share: options, and the exit code that a failure must have."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vtkmodules.vtkCommonCore import vtkOutputWindow

from neurcomp_core.errors import InputError, NeurCompError
from neurcomp_core.nets.backends import NAMES
from neurcomp_filters.settings import codec_choices, preset_names

# Option, property of the filters and writers, what the property `Target` then is, help.
_TARGETS = (
    ("ratio", "Ratio", "Compression Ratio", "raw bytes / file bytes"),
    ("psnr", "PSNR", "PSNR", "at least so many dB, peak = max - min"),
    ("max-error", "MaximumError", "Maximum Error", "no sample off by more, in the units of the data"),
    ("relative-error", "RelativeError", "Relative Error", "no sample off by more than this times the range"),
    ("bytes", "FileSize", "File Size", "bytes of the file"),
)


class PipelineError(NeurCompError):
    """The first error that VTK or ParaView reported."""


@contextmanager
def checked() -> Iterator[None]:
    """Raise `PipelineError` at the end of the block if VTK or ParaView reported an error in it.

    ``UpdatePipeline()``, ``SaveData()`` and ``Render()`` themselves never raise: they print and go on.

    Examples
    --------
    >>> with checked():
    ...     compressed = NeuralCompress(Input=reader, Ratio=100)
    ...     SaveData("flow.nvc", proxy=compressed)
    """
    window, errors = vtkOutputWindow.GetInstance(), _Errors()
    tag = window.AddObserver("ErrorEvent", errors)  # pyright: ignore
    try:
        yield
    finally:
        window.RemoveObserver(tag)
    if errors.messages:
        raise PipelineError(errors.messages[0])


@contextmanager
def loud(name: str) -> Iterator[None]:
    """End the program with one line on stderr and the right exit code if the block fails, `checked` included.

    Examples
    --------
    >>> with loud("my_program"):
    ...     UpdatePipeline(proxy=OpenDataFile("flow.vti"))
    """
    try:
        with checked():
            yield
    except NeurCompError as error:
        _leave(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        _leave(name, "stopped", 130)


class _Errors:
    """Observer of VTK's output window."""

    CallDataType = "string0"  # VTK's way of asking for the event's data

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, window: object, event: str, text: str = "") -> None:
        # ParaView sends all that Python writes to stderr the same way. "CLASS (ADDRESS): " is for developers.
        found = re.match(r"\s*ERROR: In .*\n(?:\w+ \(\w+\): )?", text)
        if found:
            self.messages.append(" ".join(text[found.end() :].split()))


def _leave(name: str, message: str, code: int) -> None:
    sys.stdout.flush()
    # Not through sys.stderr, which ParaView replaces: after Catalyst's end it leads nowhere.
    os.write(2, f"{name}: {message}\n".encode())
    raise SystemExit(code)


def parser(documentation: str | None, **settings: Any) -> argparse.ArgumentParser:
    """Parser of a program whose docstring is its help."""
    return argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter, **settings
    )


def add_target(options: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that say what to reach, one of which must be given unless there is a `default` ratio."""
    group = options.add_argument_group("target, exactly one of").add_mutually_exclusive_group(required=default is None)
    for option, _, _, text in _TARGETS:
        standard = f" (default: {default})" if option == "ratio" and default else ""
        group.add_argument(f"--{option}", type=float, metavar="VALUE", help=text + standard)
    options.set_defaults(default_ratio=default)


def add_run(options: argparse.ArgumentParser, codec: bool = True) -> None:
    """Add the options that say how to compress."""
    group = options.add_argument_group("compression")
    if codec:
        group.add_argument("--codec", default=codec_choices()[0], help=f"one of {', '.join(codec_choices())}")
    group.add_argument("--preset", default="balanced", help=f"one of {', '.join(preset_names())}")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="codec parameter; repeatable")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    group.add_argument("--backend", default="auto", choices=NAMES, help="what computes networks")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")


def properties(arguments: argparse.Namespace) -> dict[str, Any]:
    """Properties of ``NeuralCompress`` and of the ``.nvc`` writer that `add_target` and `add_run` stand for.

    Raises
    ------
    InputError
        If the target's value cannot be.
    """
    found: dict[str, Any] = {}
    for option, name, target, _ in _TARGETS:
        value = getattr(arguments, option.replace("-", "_"))
        if value is not None:
            if not 0 < value < float("inf"):
                raise InputError(f"--{option}: expected a positive number, got {value:g}")
            found = {"Target": target, name: value}
    if not found:
        found = {"Target": "Compression Ratio", "Ratio": float(arguments.default_ratio)}
    if "codec" in arguments:
        found["Codec"] = arguments.codec
    return found | {
        "Preset": arguments.preset,
        "CodecParameters": " ".join(arguments.set),
        "Device": arguments.device,
        "Backend": arguments.backend,
        "Seed": arguments.seed,
        "Threads": arguments.threads,
    }


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A plain table: the first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, ["-" * w for w in widths], *rows]:
        cells = [cell.rjust(w) for cell, w in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return "\n".join(lines)
