"""Runs when a Python that `neurcomp paraview` and its kin started comes up: ParaView's own, or a child of it.

Python imports a module of this name by itself; the launcher puts this folder on PYTHONPATH and says what to do in
NEURCOMP_* variables. Nothing of NeurComp's may be imported here.
"""

import atexit
import importlib.machinery
import importlib.util
import os
import site
import sys


class _OwnFirst:
    """Finds some modules in this environment although ParaView's Python has others of that name."""

    names = frozenset(filter(None, os.environ.get("NEURCOMP_OWN_MODULES", "").split(",")))
    folders = tuple(filter(None, os.environ.get("NEURCOMP_SITE_PACKAGES", "").split(os.pathsep)))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is None and name in cls.names:
            return importlib.machinery.PathFinder.find_spec(name, cls.folders, target)
        return None


def _append_packages():
    # A child process may be another Python, whose compiled packages would differ.
    if os.environ.get("NEURCOMP_PYTHON") != "%d.%d" % sys.version_info[:2]:  # noqa: UP031  (the Python may be old)
        return
    # addsitedir appends: what ParaView brings, NumPy and VTK above all, stays first.
    for folder in _OwnFirst.folders:
        site.addsitedir(folder)
    sys.meta_path.insert(0, _OwnFirst)


def _restore_getargspec():
    # ParaView before 5.12 imports it, Python 3.11 has it no longer; no Python plugin loads without.
    import inspect

    if not hasattr(inspect, "getargspec"):
        inspect.getargspec = inspect.getfullargspec


def _close_views():
    # Views that go down with the interpreter make an X error (GLXBadContext) of ParaView 5.11's exit code.
    simple = sys.modules.get("paraview.simple")
    if simple is not None:
        for view in simple.GetRenderViews():
            simple.Delete(view)


def _run_the_next_one():
    # This file hides the system's or the user's own sitecustomize.
    here = os.path.dirname(os.path.abspath(__file__))
    path = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# The tree of cmake --install runs this file under another name, for the packages alone.
if __name__ == "sitecustomize":
    _append_packages()
    if os.environ.get("NEURCOMP_CLOSE_VIEWS"):
        atexit.register(_close_views)
    if os.environ.get("NEURCOMP_GETARGSPEC"):
        _restore_getargspec()
    _run_the_next_one()
