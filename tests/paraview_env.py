"""Running ParaView's programs as `neurcomp pvpython` and its kin do, in a folder and a home of their own."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import textwrap
from pathlib import Path

from conftest import PVPYTHON

from neurcomp_cli import installation

PLUGIN = Path(__file__).parent.parent / "plugin" / "NeurComp.py"

# Run after the launcher's own start-up file, see neurcomp_cli/startup.
_WITHOUT = """
import sys


class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Missing)
"""


def program(name: str) -> str:
    """Path of one of ParaView's programs, beside pvpython or on PATH."""
    assert PVPYTHON is not None
    beside = Path(PVPYTHON).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


@functools.cache
def _installed() -> installation.Installation:
    return installation.inspect(Path(program("pvpython")), os.environ)


def environment(folder: Path, without: str = "", autoload: bool = True) -> dict[str, str]:
    """Variables that make ParaView find NeurComp.

    Parameters
    ----------
    folder : Path
    without : str
        A module that seems not to be installed.
    autoload : bool
        Whether the plugin is loaded by itself.
    """
    env = installation.environment(_installed(), plain_environment(folder))
    if without:
        hiding = folder / "hiding"
        hiding.mkdir(exist_ok=True)
        (hiding / "sitecustomize.py").write_text(_WITHOUT.format(names=[without]))
        env["PYTHONPATH"] += os.pathsep + str(hiding)
    if not autoload:
        del env["PV_PLUGIN_PATH"]
    return env


def plain_environment(folder: Path) -> dict[str, str]:
    """Variables of a user who has no NeurComp: a home of its own, threads that do not spin while they wait."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PV_PLUGIN_PATH", "DISPLAY")}
    return env | {"HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}


def script(folder: Path, text: str, name: str = "script.py") -> Path:
    """A file with a program."""
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def run(command: list[str], folder: Path, env: dict[str, str], display: bool = False) -> subprocess.CompletedProcess:
    """Run to the end, with a display of its own if asked for; stdout has stderr in it."""
    if display:
        command = [*virtual_display(), *command]
    return subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )


def virtual_display(*options: str) -> list[str]:
    """What to put before a command that draws. ``xvfb-run -a`` gives two that start together one display."""
    # A server that is reset when its last client leaves turns away the next one.
    server = " ".join(["-screen 0 1280x1024x24", "-noreset", *options])
    return ["xvfb-run", "-n", str(100 + secrets.randbelow(50000)), "-s", server]
