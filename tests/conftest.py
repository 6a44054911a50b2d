"""Tests marked `paraview` need pvpython: skipped where there is none, an error under NEURCOMP_REQUIRE_PARAVIEW=1."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator

import pytest

# As the command line does: parallel test workers share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Under pvpython the name is that of a program which need not be there.
if not os.path.exists(sys.executable):
    sys.executable = shutil.which("python{}.{}".format(*sys.version_info)) or sys.executable

PVPYTHON = shutil.which(os.environ.get("PVPYTHON", "pvpython"))
REQUIRED = os.environ.get("NEURCOMP_REQUIRE_PARAVIEW", "0") not in ("", "0")


def pytest_report_header() -> str:
    return f"ParaView: {PVPYTHON or 'no pvpython found, tests marked paraview are skipped'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PVPYTHON is None:
        for item in items:
            if item.get_closest_marker("paraview"):
                item.add_marker(pytest.mark.skip(reason="needs ParaView's pvpython (or PVPYTHON=/path/to/it)"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Whatever skipped it, the marker's or its own: CI must not be green over tests that did not run.
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("paraview"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"NEURCOMP_REQUIRE_PARAVIEW is set, but this test did not run. {reason}"
    return report
