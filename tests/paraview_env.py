"""Running ParaView's programs as a user's installation would: the plugin on its path, this environment appended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import textwrap
from pathlib import Path

from conftest import PVPYTHON

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "plugin" / "NeurComp.py"

# What torch needs in a newer version than Debian's Python packages have, where those are installed.
_SITECUSTOMIZE = """
import importlib.machinery, inspect, os, site, sys

if not hasattr(inspect, "getargspec"):  # ParaView 5.11 with Python 3.11
    inspect.getargspec = inspect.getfullargspec
site.addsitedir(PACKAGES)
missing = os.environ.get("WITHOUT", "").split()


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in ("sympy", "mpmath", "networkx", "jinja2", "typing_extensions", "filelock", "fsspec"):
            return importlib.machinery.PathFinder.find_spec(name, [PACKAGES])
        return None


sys.meta_path.insert(0, Finder)
"""


def program(name: str) -> str:
    """Path of one of ParaView's programs, beside pvpython or on PATH."""
    assert PVPYTHON is not None
    beside = Path(PVPYTHON).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


def environment(folder: Path, without: str = "", autoload: bool = True) -> dict[str, str]:
    """Variables that make ParaView find NeurComp; its start-up file goes to `folder`.

    Parameters
    ----------
    folder : Path
    without : str
        Modules that seem not to be installed.
    autoload : bool
        Whether the plugin is loaded by itself.
    """
    startup = folder / "startup"
    startup.mkdir(exist_ok=True)
    packages = sysconfig.get_paths()["purelib"]
    (startup / "sitecustomize.py").write_text(f"PACKAGES = {packages!r}\n{_SITECUSTOMIZE}")
    env = plain_environment(folder) | {"PYTHONPATH": str(startup), "WITHOUT": without}
    return env | ({"PV_PLUGIN_PATH": str(PLUGIN.parent)} if autoload else {})


def plain_environment(folder: Path) -> dict[str, str]:
    """Variables of a user who has no NeurComp: a home of its own, threads that do not spin while they wait."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PV_PLUGIN_PATH", "DISPLAY")}
    return env | {"HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE", "NUMBA_NUM_THREADS": "2"}


def script(folder: Path, text: str, name: str = "script.py") -> Path:
    """A file with a program."""
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def run(command: list[str], folder: Path, env: dict[str, str], display: bool = False) -> subprocess.CompletedProcess:
    """Run to the end, with a display of its own if asked for; stdout has stderr in it."""
    if display:
        command = ["xvfb-run", "-a", *command]
    return subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150
    )
