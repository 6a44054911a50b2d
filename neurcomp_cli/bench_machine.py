"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from neurcomp_core.codec import usable_cpus


def describe() -> str:
    """Processor, CPUs, memory, system and Python in one line."""
    cpu = platform.processor() or platform.machine()
    file = Path("/proc/cpuinfo")
    if file.exists():
        lines = file.read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    parts = [cpu, f"{usable_cpus()} of {os.cpu_count()} CPUs"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    return ", ".join([*parts, platform.system(), f"Python {platform.python_version()}"])
