"""What `neurcomp doctor` looks at. Each check returns what it found; none raises."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurcomp_cli import display, installation
from neurcomp_core.errors import NeurCompError

OK, WARN, FAIL = "ok", "warn", "fail"
#: NumPy that this VTK's `numpy_interface` cannot work with: from (2, 4) on `numpy.in1d` is gone, used up to VTK 9.5.
_NUMPY_WITHOUT_IN1D, _VTK_WITH_IN1D = (2, 4), (9, 5)
_OLDEST_NUMPY = (1, 24)
_PATIENCE = 300.0


@dataclass(frozen=True)
class Check:
    """One line of the report; `advice` is empty where there is nothing to do."""

    status: str
    name: str
    found: str
    advice: str = ""


def all_checks() -> tuple[Callable[[], list[Check]], ...]:
    """The checks in the order of the report."""
    return (python_packages, numba, torch, paraview)


def _first_two(version: str) -> tuple[int, int]:
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def _version_of(module: str) -> str:
    """Version of a module that can really be imported.

    Raises
    ------
    ImportError, or whatever a broken installation raises
    """
    loaded: Any = importlib.import_module(module)
    return loaded.vtkVersion().GetVTKVersion() if module.startswith("vtk") else loaded.__version__


def _optional(module: str, extra: str, purpose: str) -> Check:
    name = module.split(".")[0].replace("vtkmodules", "vtk")
    if importlib.util.find_spec(module.split(".")[0]) is None:
        return Check(WARN, name, "not installed", f"{purpose}: pip install 'neurcomp[{extra}]'")
    try:
        if module == "h5py":
            from neurcomp_filters.io._hdf5 import h5py

            return Check(OK, name, h5py("HDF5").__version__)
        return Check(OK, name, _version_of(module))
    except Exception as error:  # a broken package may raise anything
        return Check(WARN, name, f"does not load: {error}", f"install it again: pip install 'neurcomp[{extra}]'")


# ------------------------------------------------------------------------------------------------ this environment


def python_packages() -> list[Check]:
    """Python, NumPy, VTK and h5py of the command line."""
    import numpy

    found = [Check(OK, "Python", f"{sys.version.split()[0]}, {sys.executable}")]
    vtk = _optional("vtkmodules.vtkCommonCore", "vtk", "VTI, VTR, netCDF and NIfTI files on the command line")
    clash = vtk.status == OK and _clash(numpy.__version__, vtk.found)
    found.append(Check(WARN, "numpy", numpy.__version__, clash) if clash else Check(OK, "numpy", numpy.__version__))
    found.append(vtk)
    found.append(_optional("h5py", "hdf5", "HDF5 and VTKHDF files"))
    return found


def _clash(numpy: str, vtk: str) -> str:
    if _first_two(numpy) >= _NUMPY_WITHOUT_IN1D and _first_two(vtk) <= _VTK_WITH_IN1D:
        return f"VTK {vtk} needs an older one: pip install 'numpy<2.4', or vtk 9.6"
    return ""


def numba() -> list[Check]:
    """Compiled kernels, and where they are kept."""
    try:
        version = _version_of("numba")
    except Exception as error:
        return [
            Check(FAIL, "numba", f"does not load: {error}", "install it again: pip install --force-reinstall numba")
        ]
    folder = _cache_folder()
    if folder is None:
        advice = "kernels are compiled anew in every process; set NUMBA_CACHE_DIR to a folder that can be written"
        return [Check(OK, "numba", version), Check(WARN, "numba's cache", "no folder can be written", advice)]
    return [Check(OK, "numba", version), Check(OK, "numba's cache", str(folder))]


def _cache_folder() -> Path | None:
    """Where numba keeps kernels: the first of its places that can be written."""
    import neurcomp_core

    own = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(str(neurcomp_core.__file__)).parent / "coding" / "__pycache__"
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    for folder in [Path(own)] if own else [beside, users]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def torch() -> list[Check]:
    """Training, and the GPU for it."""
    found = _optional("torch", "train", "compressing with neural codecs needs it, decompressing does not")
    if found.status != OK:
        return [found]
    import torch as library

    if library.version.cuda is None:
        advice = "compression runs on the CPU; for a GPU install a CUDA build of torch" if _has_gpu() else ""
        return [found, Check(WARN if advice else OK, "CUDA", "torch is built for the CPU only", advice)]
    if library.cuda.is_available():
        return [found, Check(OK, "CUDA", f"{library.version.cuda}, {library.cuda.get_device_name()}")]
    advice = "torch does not see the GPU: does nvidia-smi work, and is the driver new enough?" if _has_gpu() else ""
    return [found, Check(WARN if advice else OK, "CUDA", f"{library.version.cuda}, no device", advice)]


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


# -------------------------------------------------------------------------------------------------------- ParaView


def paraview() -> list[Check]:
    """ParaView, and everything as it is inside."""
    env = dict(os.environ)
    try:
        found = installation.inspect(installation.program("pvpython", env), env)
    except NeurCompError as error:
        unless = "" if "PARAVIEW_HOME" in str(error) else "install ParaView again, or set PARAVIEW_HOME to another one"
        return [Check(WARN, "ParaView", "none that works", f"{error}{'; ' if unless else ''}{unless}")]
    checks = [Check(OK, "ParaView", f"{found.full_version}, {found.pvpython}")]
    try:
        installation.check_python(found)
    except NeurCompError as error:
        theirs = ".".join(map(str, found.python))
        return [*checks, Check(FAIL, "ParaView's Python", theirs, str(error))]
    shim = " (plugins load through NeurComp's launcher only)" if found.needs_getargspec else ""
    checks.append(Check(OK, "ParaView's Python", f"{found.python[0]}.{found.python[1]}{shim}"))
    checks.append(_screen(found))
    return [*checks, *_inside(), _rendering()]


def _screen(found: installation.Installation) -> Check:
    if not display.missing(os.environ):
        return Check(OK, "display", os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "the system's")
    if not found.draws_through_x:
        return Check(OK, "display", f"none, and none needed ({found.window})")
    server = display.xvfb(os.environ)
    if server is None:
        return Check(WARN, "display", "none, and no Xvfb", "rendering in pvpython crashes: apt-get install xvfb")
    return Check(OK, "display", f"none; pvpython gets a virtual one ({server})")


# Run by ParaView's Python. A module says its version and where it comes from, or why it does not load.
_LOOK = """
import json, sys
def look(name, version):
    try:
        module = __import__(name, fromlist=["x"])
        return [str(version(module)), str(getattr(module, "__file__", ""))]
    except Exception as error:
        return [None, type(error).__name__ + ": " + str(error)]
def h5py(module):
    library = module.h5py("HDF5")
    with library.File("check.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = 1.0
    return library.__version__
def torch(module):
    module.optim.Adam([module.zeros(1, requires_grad=True)])  # loads what torch needs of others
    return module.__version__
plain = lambda module: module.__version__
found = {
    "numpy": look("numpy", plain),
    "vtk": look("vtkmodules.vtkCommonCore", lambda module: module.vtkVersion().GetVTKVersion()),
    "numba": look("numba", plain),
    "torch": look("torch", torch),
    "h5py": look("neurcomp_filters.io._hdf5", h5py),
    "plugin": look("paraview.simple", lambda module: module.NeuralCompress and "loaded"),
    "prefix": sys.prefix,
}
print("FOUND " + json.dumps(found))
"""
_RENDER = """
from paraview.simple import CreateRenderView, GetOpenGLInformation, Render, Show, Sphere
view = CreateRenderView(ViewSize=[64, 64])
Show(Sphere(), view)
Render(view)
print("FOUND " + GetOpenGLInformation().GetRenderer())
"""


def _inside() -> list[Check]:
    said, error = _ask(_LOOK)
    if said is None:
        return [Check(FAIL, "inside ParaView", error, "run 'neurcomp pvpython' and see what it says")]
    found: dict[str, Any] = json.loads(said)
    folders = installation.packages_folders()
    checks = []
    for name in ("numpy", "vtk"):
        version, where = found[name]
        if version is None:
            checks.append(Check(FAIL, f"{name} in ParaView", where, "install ParaView again"))
        elif any(where.startswith(folder) for folder in folders):
            # NumPy of this environment is all right where ParaView brings none.
            status = FAIL if name == "vtk" else OK
            advice = "it hides ParaView's own: take this environment off PYTHONPATH" if name == "vtk" else ""
            checks.append(Check(status, f"{name} in ParaView", f"{version}, {where}", advice))
        else:
            checks.append(Check(OK, f"{name} in ParaView", f"{version}, ParaView's own"))
    checks += _numpy_inside(found["numpy"][0], found["vtk"][0])
    checks.append(_loaded("numba in ParaView", found["numba"], FAIL, "nothing can be decoded without it"))
    checks.append(
        _loaded("torch in ParaView", found["torch"], WARN, "compressing needs it: pip install 'neurcomp[train]'")
    )
    checks.append(_loaded("h5py in ParaView", found["h5py"], WARN, "VTKHDF needs it: pip install 'neurcomp[hdf5]'"))
    checks.append(_loaded("plugin", found["plugin"], FAIL, "run 'neurcomp pvpython -c \"import paraview.simple\"'"))
    return checks


def _numpy_inside(numpy: str | None, vtk: str | None) -> list[Check]:
    if numpy and _first_two(numpy) < _OLDEST_NUMPY:
        return [Check(FAIL, "numpy in ParaView", numpy, "it is too old (1.24 is needed): take a newer ParaView")]
    if numpy and vtk and (clash := _clash(numpy, vtk)):
        return [Check(WARN, "numpy in ParaView", numpy, clash)]
    return []


def _loaded(name: str, found: list[str], otherwise: str, advice: str) -> Check:
    version, where = found
    return Check(OK, name, version) if version else Check(otherwise, name, where, advice)


def _rendering() -> Check:
    renderer, error = _ask(_RENDER)
    if renderer is None:
        return Check(
            WARN, "rendering", error, "pictures from pvpython need a display, Xvfb, or an EGL build of ParaView"
        )
    return Check(OK, "rendering", renderer)


def _ask(program: str) -> tuple[str | None, str]:
    """What `program` prints as found in ParaView's Python, started as users start it; else the reason."""
    command = [sys.executable, "-m", "neurcomp_cli", "pvpython", "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_PATIENCE:g} s"
    for line in done.stdout.splitlines():
        if line.startswith("FOUND "):
            return line[6:], ""
    if done.returncode < 0:
        return None, f"it crashed (signal {-done.returncode})"
    return None, (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
