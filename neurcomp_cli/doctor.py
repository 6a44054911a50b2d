"""``neurcomp doctor``."""

from __future__ import annotations

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from neurcomp_cli import options, report
from neurcomp_cli.checks import FAIL, OK, WARN, Check, all_checks
from neurcomp_cli.console import stdout, working

_COLOURS = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, doctor, "neurcomp doctor", "PARAVIEW_HOME=/opt/ParaView-5.13 neurcomp doctor")


def doctor(as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Check ParaView, Python, NumPy, VTK, HDF5, torch, numba, CUDA and rendering, and say what to do.

    Exits with 1 if something that is needed fails; what is merely missing is a warning.
    """
    found: list[Check] = []
    checks = all_checks()
    with working("checking", quiet=quiet or as_json) as progress:
        for i, check in enumerate(checks):
            progress.update(i / len(checks), check.__name__.replace("_", " "))
            found += check()
    failed = [check for check in found if check.status == FAIL]
    if as_json:
        report.print_json({"ok": not failed, "checks": [vars(check) for check in found]})
    elif not quiet:
        _show(found)
    if failed:
        raise typer.Exit(1)


def _show(found: list[Check]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "what", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in found:
        mark = Text(check.status, style=_COLOURS[check.status])
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.advice))
    stdout().print(table)
    count = {status: sum(check.status == status for check in found) for status in (OK, WARN, FAIL)}
    report.line(f"{count[OK]} ok, {count[WARN]} to note, {count[FAIL]} failed")
