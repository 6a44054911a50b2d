"""``neurcomp codecs``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import typer

from neurcomp_cli import options, report
from neurcomp_core.auto import Auto
from neurcomp_core.codec import Codec, registry


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, codecs)


def codecs(as_json: options.Json = False) -> None:
    """List the codecs, their presets and the parameters that `compress --set` takes."""
    found = [_described(codec) for codec in (Auto, *sorted(registry().values(), key=lambda codec: codec.id))]
    if as_json:
        report.print_json({"codecs": found})
        return
    for codec in found:
        known = "the default" if codec["id"] is None else f"id {codec['id']}"
        report.line(f"{codec['name']} ({known}): {codec['about']}")
        for name, values in codec["presets"].items():
            report.line(f"  preset {name}: {_listed(values) or 'the defaults'}")
        if codec["parameters"]:
            report.line(f"  parameters: {_listed(codec['parameters'])}")
        report.line("")


def _described(codec: type[Codec]) -> dict[str, Any]:
    return {
        "name": codec.name,
        "id": getattr(codec, "id", None),  # auto has none, as files hold what it chose
        "about": " ".join((codec.__doc__ or "").split("\n\n")[0].split()),
        "presets": {name: dict(values) for name, values in codec.presets.items()},
        "parameters": {f.name: f.default for f in fields(codec)},
    }


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={'auto' if value is None else value}" for name, value in values.items())
