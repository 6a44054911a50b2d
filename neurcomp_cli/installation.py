"""The ParaView on this machine: where it is, what it is, and the environment its programs need to find NeurComp."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurcomp_cli import packages
from neurcomp_core.errors import MissingExtraError, NeurCompError

_FOLDERS = ("bin", "", "Contents/bin", "Contents/MacOS")
#: Seconds after which a pvpython that was asked for its version is given up.
_PATIENCE = 60.0
_PROBE = """
import json, sys
import vtkmodules.vtkRenderingOpenGL2
import paraview
from vtkmodules.vtkRenderingCore import vtkRenderWindow
print(json.dumps([paraview.__version__, sys.version_info[:2], vtkRenderWindow().GetClassName()]))
"""


@dataclass(frozen=True)
class Installation:
    """What a ParaView says about itself.

    Attributes
    ----------
    pvpython : Path
    version, python : tuple of int
        As in ``(5, 11)`` and ``(3, 11)``.
    full_version : str
    window : str
        Class of its render windows as things are, ``vtkXOpenGLRenderWindow`` where it draws through X.
    """

    pvpython: Path
    full_version: str
    version: tuple[int, int]
    python: tuple[int, int]
    window: str

    @property
    def needs_getargspec(self) -> bool:
        """Whether its plugin loader wants a function that its Python no longer has (fixed in ParaView 5.12)."""
        return self.version < (5, 12) and self.python >= (3, 11)

    @property
    def draws_through_x(self) -> bool:
        """Whether it cannot render without an X server; EGL and OSMesa builds, and ParaView 6, can."""
        return "XOpenGL" in self.window


def program(name: str, env: Mapping[str, str]) -> Path:
    """Where a program of ParaView's is: beside ``$PVPYTHON``, in ``$PARAVIEW_HOME``, or on PATH.

    Raises
    ------
    MissingExtraError
        If it is not there; says where it was looked for. A variable that is set is not silently passed over.
    """
    path = env.get("PATH", os.defpath)
    where = "on PATH"
    if env.get("PVPYTHON"):
        pvpython = shutil.which(env["PVPYTHON"], path=path)
        where = f"beside PVPYTHON={env['PVPYTHON']}"
        path = os.path.dirname(os.path.abspath(pvpython)) if pvpython else ""
        if pvpython and name == "pvpython":
            return Path(pvpython).absolute()
    elif env.get("PARAVIEW_HOME"):
        home = Path(env["PARAVIEW_HOME"]).expanduser().absolute()
        where = f"in PARAVIEW_HOME={home}"
        path = os.pathsep.join(str(home / folder) for folder in _FOLDERS)
    found = shutil.which(name, path=path) if path else None
    if found is None:
        raise MissingExtraError(
            f"ParaView's {name} was not found {where}; install ParaView (Debian: apt-get install paraview "
            f"python3-paraview) or set PARAVIEW_HOME to its folder"
        )
    return Path(found).absolute()


def inspect(pvpython: Path, env: Mapping[str, str]) -> Installation:
    """Ask a pvpython what it is; takes it about a second.

    Raises
    ------
    NeurCompError
        If it does not answer.
    """
    # An MPI launcher's variables would make the question take the rank's place in the job.
    plain = {k: v for k, v in env.items() if not k.startswith(("OMPI_", "PMIX_", "PMI_", "PRTE_"))}
    try:
        done = subprocess.run(
            [pvpython, "--no-mpi", "-c", _PROBE], env=plain, capture_output=True, text=True, timeout=_PATIENCE
        )
        version, python, window = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise NeurCompError(f"'{pvpython}' gave no answer within {_PATIENCE:g} s; does it start by itself?") from None
    except (OSError, ValueError, IndexError) as error:
        said = done.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError | IndexError) else [str(error)]
        raise NeurCompError(f"'{pvpython}' does not run as ParaView's Python: {' '.join(said) or error}") from None
    return Installation(pvpython, version, _first_two(version), (python[0], python[1]), window)


def _first_two(version: str) -> tuple[int, int]:
    major, minor = (version.split(".") + ["0"])[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def check_python(installation: Installation) -> None:
    """Compiled packages, numba and torch above all, belong to one minor version of Python.

    Raises
    ------
    MissingExtraError
        If ParaView's Python is another than this one.
    """
    if installation.python != sys.version_info[:2]:
        theirs = ".".join(map(str, installation.python))
        raise MissingExtraError(
            f"ParaView {installation.full_version} runs Python {theirs}, but neurcomp is installed for Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}; install it into an environment made with python{theirs}"
        )


def plugin_folder() -> Path:
    """Folder that holds the plugin and no other Python file.

    Raises
    ------
    NeurCompError
        If the installation lacks it.
    """
    # A package without __init__.py: it has places, but no file.
    spec = importlib.util.find_spec("neurcomp_plugin")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in (*places, Path(__file__).parent.parent / "plugin"):
        if (Path(place) / "NeurComp.py").is_file():
            return Path(place).absolute()
    raise NeurCompError("this installation of neurcomp has no ParaView plugin; install it again")


def startup_folder() -> Path:
    """Folder whose ``sitecustomize.py`` ParaView's Python runs."""
    return Path(__file__).parent.absolute() / "startup"


def packages_folders() -> list[str]:
    """Folders of this environment's packages."""
    paths = sysconfig.get_paths()
    found = [paths["purelib"], paths["platlib"]]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return list(dict.fromkeys(found))


def environment(installation: Installation, env: Mapping[str, str]) -> dict[str, str]:
    """`env` with what ParaView needs to load the plugin and to find this environment's packages after its own.

    The same for all versions: ``pvpython --venv`` (5.13) puts the environment first, where a pip-installed VTK or
    NumPy takes the place of ParaView's, and neither ``paraview`` nor ``pvbatch --sym`` under MPI needs another way.
    """
    changed = dict(env)
    changed["PV_PLUGIN_PATH"] = _put_first(plugin_folder(), env.get("PV_PLUGIN_PATH"))
    changed["PYTHONPATH"] = _put_first(startup_folder(), env.get("PYTHONPATH"))
    changed["NEURCOMP_PYTHON"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
    changed["NEURCOMP_SITE_PACKAGES"] = os.pathsep.join(packages_folders())
    changed["NEURCOMP_OWN_MODULES"] = ",".join(packages.import_names())
    changed.pop("NEURCOMP_GETARGSPEC", None)
    if installation.needs_getargspec:
        changed["NEURCOMP_GETARGSPEC"] = "1"
    # Threads of torch and numba that spin while they wait take the CPU from ParaView's.
    changed.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return changed


def _put_first(folder: Path, paths: str | None) -> str:
    rest: Sequence[str] = [p for p in (paths or "").split(os.pathsep) if p and p != str(folder)]
    return os.pathsep.join([str(folder), *rest])
