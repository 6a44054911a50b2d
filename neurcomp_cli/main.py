"""The `neurcomp` command: one module per subcommand, put together here.

Importing this must stay cheap: what needs torch, VTK or numba imports it when a command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from neurcomp_cli import (
    bench,
    codecs,
    compare,
    compress,
    decompress,
    doctor,
    exporting,
    importing,
    info,
    meta_train,
    paraview,
    radiance,
    sample,
)

app = typer.Typer(
    name="neurcomp",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback is for bugs only (see `console.reporting`); then the plain one is what a report needs.
    pretty_exceptions_enable=False,
)
_COMMANDS = (
    compress, decompress, info, compare, importing, exporting, meta_train, bench, sample, radiance, codecs, paraview,
    doctor,
)  # fmt: skip
for command in _COMMANDS:
    command.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from neurcomp_cli.report import version

        typer.echo(f"neurcomp {version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Small files and honest errors for volumes: neural and learned compression to a stated size or quality.

    Exit codes: 0 done, 1 other failure, 2 bad input or usage, 3 time limit, 4 damaged file, 5 target out of reach,
    6 a package is missing, 130 stopped with Ctrl-C.
    """


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="neurcomp")
