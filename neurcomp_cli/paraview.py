"""``neurcomp paraview``, ``pvpython``, ``pvbatch`` and ``pvserver``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from neurcomp_cli import display, installation, options
from neurcomp_cli.console import say
from neurcomp_core.errors import InputError

_WHERE = "ParaView is looked for beside PVPYTHON, in PARAVIEW_HOME, on PATH."
_ABOUT = {
    "paraview": (
        "Start ParaView with NeurComp's filters, reader and writer loaded.",
        ("neurcomp paraview", "neurcomp paraview flow.vti", "neurcomp paraview --state=view.pvsm"),
    ),
    "pvpython": (
        "Run a Python program in ParaView's Python, with NeurComp loaded; renders without a display, too.",
        ("neurcomp pvpython scripts/compare_codecs.py flow.vti", "neurcomp pvpython    # interactive"),
    ),
    "pvbatch": (
        "Run a batch program of ParaView's, with NeurComp loaded; under mpiexec on several ranks.",
        ("neurcomp pvbatch render.py", "mpiexec -n 4 neurcomp pvbatch --sym render.py"),
    ),
    "pvserver": (
        "Start a ParaView server with NeurComp loaded; the client needs neither NeurComp nor torch.",
        ("neurcomp pvserver --server-port=11111",),
    ),
}
# All but the options before the first argument is the program's; what is not known here is, too.
_UNTOUCHED = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for name, (about, examples) in _ABOUT.items():
        command = _command(name)
        command.__doc__ = f"{about}\n\nArguments are {name}'s own (its help: neurcomp {name} -- --help). {_WHERE}"
        options.add(app, command, *examples, name=name, context_settings=_UNTOUCHED)


def _command(name: str) -> Callable[..., None]:
    def command(
        arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENTS", show_default=False)] = None,
    ) -> None:
        launch(name, arguments or [])

    return command


def launch(name: str, arguments: Sequence[str]) -> NoReturn:
    """Become one of ParaView's programs.

    Raises
    ------
    MissingExtraError, NeurCompError
        If it is not installed, does not run, or is built for another Python.
    InputError
        If there is no display for its windows.
    """
    path = installation.program(name, os.environ)
    if name == "paraview" and display.missing(os.environ) and not os.environ.get("QT_QPA_PLATFORM"):
        raise InputError(
            "there is no display for ParaView's windows (DISPLAY is not set); use 'neurcomp pvpython' for programs "
            "without windows"
        )
    found = installation.inspect(_pvpython_of(path), os.environ)
    installation.check_python(found)
    env = installation.environment(found, os.environ)
    if name in ("pvpython", "pvbatch"):  # in a window, the views are the window's
        env["NEURCOMP_CLOSE_VIEWS"] = "1"
    if display.missing(env) and found.draws_through_x and name != "paraview":
        env |= _virtual_display(env)
    _become(path, arguments, env)


def _pvpython_of(path: Path) -> Path:
    beside = path.with_name("pvpython" + path.suffix)
    return beside if beside.exists() else installation.program("pvpython", os.environ)


def _virtual_display(env: dict[str, str]) -> dict[str, str]:
    server = display.xvfb(env)
    if server is None:
        # This ParaView crashes when it renders now; what does not render is none the worse for it.
        say("neurcomp: there is no display and no Xvfb: a program that renders will crash (apt-get install xvfb)")
        return {}
    return display.start(server)


def _become(path: Path, arguments: Sequence[str], env: dict[str, str]) -> NoReturn:
    command = [str(path), *arguments]
    if os.name == "nt":  # there, exec starts another process and ends this one at once
        raise typer.Exit(subprocess.run(command, env=env).returncode)
    # One process: the exit code, signals and the terminal are ParaView's.
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(path, command, env)
