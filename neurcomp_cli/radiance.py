"""``neurcomp radiance``: photographs to compressed radiance fields, and these to pictures, figures and volumes."""

from __future__ import annotations

import typer

from neurcomp_cli import radiance_evaluate, radiance_export, radiance_import, radiance_render, radiance_train


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        help="Radiance fields: train them from photographs, compress, render, measure and export them.\n\n"
        "`neurcomp sample radiance` makes photographs to try this with.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (radiance_train, radiance_import, radiance_render, radiance_evaluate, radiance_export):
        command.register(group)
    app.add_typer(group, name="radiance")
