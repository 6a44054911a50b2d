"""Starting ParaView, and `neurcomp doctor`: with programs that stand in for ParaView's, and with the real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import PVPYTHON

from neurcomp_cli import display, installation, packages
from neurcomp_cli.installation import Installation
from neurcomp_core.errors import NeurCompError

OURS = (sys.version_info[0], sys.version_info[1])
X, EGL = "vtkXOpenGLRenderWindow", "vtkEGLRenderWindow"

# Answers the launcher's question, else tells how it was started and ends with a code of its own.
PROGRAM = """#!{python}
import json, os, sys
if sys.argv[1:2] == ["--no-mpi"]:
    print({answer!r})
else:
    print(json.dumps([sys.argv[1:], dict(os.environ)]))
    sys.exit(7)
"""
XVFB = """#!/bin/sh
echo $$ > {pid}
echo 5 >&3
exec sleep 60
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake(folder: Path, version: str = "5.11.0", python: tuple[int, int] = OURS, window: str = EGL) -> Path:
    """A ParaView of that kind; its folder."""
    answer = json.dumps([version, python, window])
    for name in ("paraview", "pvpython", "pvbatch", "pvserver"):
        executable(folder / "bin" / name, PROGRAM.format(python=sys.executable, answer=answer))
    return folder


def neurcomp(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "PVPYTHON", "PARAVIEW_HOME")}
    command = [sys.executable, "-m", "neurcomp_cli", *arguments]
    return subprocess.run(command, env=env | variables, capture_output=True, text=True, timeout=300)


def started(*arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment a stand-in was started with."""
    done = neurcomp(*arguments, **variables)
    assert done.returncode == 7, done.stderr
    return tuple(json.loads(done.stdout))  # type: ignore[return-value]


def refused(code: int, *arguments: str, **variables: str) -> str:
    done = neurcomp(*arguments, **variables)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (sentence,) = done.stderr.splitlines()
    return sentence


# --------------------------------------------------------------------------------------------------- without ParaView


@pytest.mark.parametrize("name", ["pvpython", "pvbatch", "pvserver"])
def test_arguments_and_exit_code_are_the_programs_own(name: str, tmp_path: Path) -> None:
    given = ["--sym", "a.py", "--help", "-c", "x y", "--", "--flag=1"]
    arguments, _ = started(name, *given, PARAVIEW_HOME=str(fake(tmp_path)))
    assert arguments == given


def test_help_of_the_launcher_and_of_the_program(tmp_path: Path) -> None:
    assert "PARAVIEW_HOME" in neurcomp("pvpython", "--help").stdout
    assert started("pvpython", "--", "--help", PARAVIEW_HOME=str(fake(tmp_path)))[0] == ["--help"]


def test_environment(tmp_path: Path) -> None:
    home = str(fake(tmp_path, "5.11.1", window=EGL))
    _, env = started("pvbatch", "a.py", PARAVIEW_HOME=home, PV_PLUGIN_PATH="/p", PYTHONPATH="/q")
    plugins, paths = env["PV_PLUGIN_PATH"].split(os.pathsep), env["PYTHONPATH"].split(os.pathsep)
    assert [p.name for p in Path(plugins[0]).glob("*.py")] == ["NeurComp.py"]
    assert plugins[1:] == ["/p"]
    assert [p.name for p in Path(paths[0]).glob("*.py")] == ["sitecustomize.py"]
    assert paths[1:] == ["/q"]
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "DISPLAY" not in env


@pytest.mark.parametrize(
    ("version", "python", "wanted"),
    [((5, 11), (3, 11), True), ((5, 11), (3, 10), False), ((5, 13), (3, 13), False), ((6, 0), (3, 12), False)],
)
def test_getargspec_only_where_it_is_gone(version: tuple[int, int], python: tuple[int, int], wanted: bool) -> None:
    found = Installation(Path("pvpython"), "", version, python, EGL)
    env = installation.environment(found, {"OMP_WAIT_POLICY": "ACTIVE", "NEURCOMP_GETARGSPEC": "1"})
    assert ("NEURCOMP_GETARGSPEC" in env) == wanted
    assert env["OMP_WAIT_POLICY"] == "ACTIVE"


def test_where_paraview_is_looked_for(tmp_path: Path) -> None:
    one, two = fake(tmp_path / "one"), fake(tmp_path / "two")
    env = {"PATH": str(one / "bin")}
    assert installation.program("pvbatch", env) == one / "bin" / "pvbatch"
    assert installation.program("pvbatch", env | {"PARAVIEW_HOME": str(two)}) == two / "bin" / "pvbatch"
    beside = env | {"PVPYTHON": str(two / "bin" / "pvpython")}
    assert installation.program("pvbatch", beside) == two / "bin" / "pvbatch"
    # What is asked for and is not there is not replaced by another.
    assert "PARAVIEW_HOME=" in refused(6, "pvpython", PARAVIEW_HOME=str(tmp_path), PATH=str(one / "bin"))
    assert "PVPYTHON=/no/pvpython" in refused(6, "pvbatch", PVPYTHON="/no/pvpython")
    assert "not found on PATH" in refused(6, "paraview", PATH=str(tmp_path))


def test_another_python_is_one_sentence(tmp_path: Path) -> None:
    home = fake(tmp_path, "5.13.2", (3, 99))
    sentence = refused(6, "pvpython", "a.py", PARAVIEW_HOME=str(home))
    assert "ParaView 5.13.2 runs Python 3.99" in sentence
    assert "python3.99" in sentence


def test_a_pvpython_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    home = fake(tmp_path)
    executable(home / "bin" / "pvpython", "#!/bin/sh\necho libsomething.so is missing >&2\nexit 127\n")
    assert "libsomething.so is missing" in refused(1, "pvbatch", PARAVIEW_HOME=str(home))


def test_windows_need_a_display(tmp_path: Path) -> None:
    home = str(fake(tmp_path))
    assert "DISPLAY is not set" in refused(2, "paraview", PARAVIEW_HOME=home)
    assert started("paraview", "a.vti", PARAVIEW_HOME=home, DISPLAY=":7")[0] == ["a.vti"]


def test_virtual_display_comes_and_goes(tmp_path: Path) -> None:
    home, pid = fake(tmp_path, window=X), tmp_path / "pid"
    executable(tmp_path / "x" / "Xvfb", XVFB.format(pid=pid))
    path = f"{tmp_path / 'x'}{os.pathsep}{os.environ['PATH']}"
    _, env = started("pvpython", "a.py", PARAVIEW_HOME=str(home), PATH=path)
    assert env["DISPLAY"].startswith(":")
    end = time.monotonic() + 20
    while time.monotonic() < end and (alive(int(pid.read_text())) or Path(env["XAUTHORITY"]).exists()):
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))
    assert not Path(env["XAUTHORITY"]).parent.exists()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_no_virtual_display_where_none_is_needed_or_there_is_none(tmp_path: Path) -> None:
    executable(tmp_path / "x" / "Xvfb", "#!/bin/sh\nexit 1\n")
    path = str(tmp_path / "x")
    for home, variables in ((fake(tmp_path / "egl"), {}), (fake(tmp_path / "x11", window=X), {"DISPLAY": ":7"})):
        _, env = started("pvpython", PARAVIEW_HOME=str(home), PATH=path, **variables)
        assert env.get("DISPLAY") == variables.get("DISPLAY")
    done = neurcomp("pvpython", PARAVIEW_HOME=str(tmp_path / "x11"), PATH=str(tmp_path))
    assert done.returncode == 7
    assert "apt-get install xvfb" in done.stderr


def test_a_server_that_does_not_start_is_one_sentence(tmp_path: Path) -> None:
    server = executable(tmp_path / "Xvfb", "#!/bin/sh\necho no screens found >&2\nexit 1\n")
    with pytest.raises(NeurCompError, match="did not start: no screens found"):
        display.start(str(server))


# ------------------------------------------------------------------------------------------- inside ParaView's Python


def inside(code: str, folder: Path, **variables: str) -> str:
    """Output of `code` in this Python, as if it were ParaView's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NEURCOMP_")}
    paths = os.pathsep.join([str(installation.startup_folder()), str(folder)])
    env |= {"PYTHONPATH": paths, "NEURCOMP_PYTHON": f"{OURS[0]}.{OURS[1]}", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_are_appended_and_some_come_first(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
        for name in ("first", "last"):
            (folder / f"{name}.py").write_text(f"where = {folder.name!r}")
    code = "import first, last; print(first.where, last.where)"
    variables = {"NEURCOMP_SITE_PACKAGES": str(ours), "NEURCOMP_OWN_MODULES": "first"}
    assert inside(code, theirs, **variables).split() == ["ours", "theirs"]
    # A child process of another version gets nothing.
    assert inside(code, theirs, **{**variables, "NEURCOMP_PYTHON": "2.7"}).split() == ["theirs", "theirs"]


def test_getargspec_and_the_users_own_startup_file(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    code = "import inspect; print(hasattr(inspect, 'getargspec'))"
    assert inside(code, tmp_path, NEURCOMP_GETARGSPEC="1").split() == ["mine", "True"]
    assert inside(code, tmp_path).split() == ["mine", str(sys.version_info < (3, 11))]


def test_what_comes_first() -> None:
    names = packages.import_names()
    assert {"numba", "llvmlite"} <= set(names)
    assert not {"numpy", "vtk", "vtkmodules", "matplotlib", "neurcomp_core"} & set(names)


# ------------------------------------------------------------------------------------------------------------- doctor


def diagnosis(**variables: str) -> tuple[int, dict[str, Any]]:
    done = neurcomp("doctor", "--json", **variables)
    found = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in found["checks"]}


def test_doctor_without_paraview() -> None:
    code, found = diagnosis(PVPYTHON="/no/pvpython")
    assert code == 0
    assert found["ParaView"]["status"] == "warn"
    assert "PARAVIEW_HOME" in found["ParaView"]["advice"]
    assert found["numba"]["status"] == found["numba's cache"]["status"] == "ok"


def test_doctor_with_another_python(tmp_path: Path) -> None:
    code, found = diagnosis(PARAVIEW_HOME=str(fake(tmp_path, python=(3, 99))))
    assert code == 1
    assert found["ParaView's Python"]["status"] == "fail"


# ---------------------------------------------------------------------------------------------------------- ParaView


def real(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert PVPYTHON is not None
    return neurcomp(name, *arguments, PVPYTHON=PVPYTHON)


@pytest.mark.paraview
def test_everything_is_there_and_paraviews_own_comes_first() -> None:
    code = (
        "import sys, numpy, vtkmodules, numba, torch, neurcomp_filters, paraview.simple as simple\n"
        "torch.optim.Adam([torch.zeros(1, requires_grad=True)])\n"
        "print(numpy.__file__, vtkmodules.__file__, sep='\\n')\n"
        "print(bool(simple.NeuralCompress), sys.argv)\n"
        "sys.exit(9)\n"
    )
    done = real("pvpython", "-c", code, "--help")
    assert done.returncode == 9, done.stderr
    numpy, vtk, last = done.stdout.splitlines()
    assert last == "True ['-c', '--help']"
    for path in (numpy, vtk):
        assert not any(path.startswith(folder) for folder in installation.packages_folders())


@pytest.mark.paraview
def test_renders_without_a_display(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from paraview.simple import *\nShow(Sphere())\nRender()\nSaveScreenshot('sphere.png')\nraise SystemExit(4)\n"
    )
    env = os.environ | {"PVPYTHON": str(PVPYTHON)}
    env.pop("DISPLAY", None)
    command = [sys.executable, "-m", "neurcomp_cli", "pvbatch", str(script)]
    # At the same time, as the ranks of a parallel job are.
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    running = [subprocess.Popen(command, cwd=folder, env=env) for folder in folders]
    assert [process.wait(150) for process in running] == [4, 4]
    assert all((folder / "sphere.png").read_bytes().startswith(b"\x89PNG") for folder in folders)


@pytest.mark.paraview
def test_signals_reach_paraview(tmp_path: Path) -> None:
    up = tmp_path / "up"
    code = f"import time; open({str(up)!r}, 'w').close(); time.sleep(60)"
    command = [sys.executable, "-m", "neurcomp_cli", "pvpython", "-c", code]
    env = os.environ | {"PVPYTHON": str(PVPYTHON)}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not up.exists() and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.paraview
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
def test_doctor_finds_nothing_wrong() -> None:
    assert PVPYTHON is not None
    code, found = diagnosis(PVPYTHON=PVPYTHON)
    assert code == 0, found
    wanted = ("ParaView", "ParaView's Python", "numpy in ParaView", "numba in ParaView", "plugin", "rendering")
    assert {name: found[name]["status"] for name in wanted} == dict.fromkeys(wanted, "ok"), found
