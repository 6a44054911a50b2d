"""A private X server in memory for programs that render where there is no display."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurcomp_core.errors import NeurCompError

#: Seconds a server has to come up.
_PATIENCE = 30.0
_ATTEMPTS = 10
# Without a reset, a program may close its last window and open another at once.
_OPTIONS = ("-nolisten", "tcp", "-noreset")
# $0 is the folder to remove, "$@" the server. It ends when the last holder of the pipe behind stdin has ended,
# however that happened. Its own stdout is closed so that the server's end shows at the other end of that pipe,
# and the server closes what it was told to speak through, which had better not be its stdout.
_KEEPER = """
"$@" 3>&1 >/dev/null 2>"$0/log" & server=$!
trap '' INT HUP TERM
exec >/dev/null
read -r nothing
kill "$server"; wait "$server"
rm -rf "$0"
"""


def missing(env: Mapping[str, str]) -> bool:
    """Whether there is no display to draw on. Only X and Wayland need one."""
    return sys.platform.startswith("linux") and not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def xvfb(env: Mapping[str, str]) -> str | None:
    """The virtual X server, if it is installed."""
    return shutil.which("Xvfb", path=env.get("PATH", os.defpath))


def start(server: str, size: str = "1600x1200") -> dict[str, str]:
    """Start a virtual X server that lives until this process and what it becomes by ``exec`` has ended.

    Any number may start at once, which ``xvfb-run -a`` does not withstand. And no process stands between the caller
    and the program that draws: signals and exit codes are the program's own.

    Returns
    -------
    dict
        Variables to set for the programs that draw.

    Raises
    ------
    NeurCompError
        If it does not come up.
    """
    said = ""
    for _ in range(_ATTEMPTS):
        # A server asked for one number takes it by a lock file or ends. Left to choose its own (-displayfd alone) it
        # removes the socket of one that starts at the same moment.
        number = secrets.randbelow(50000) + 100
        folder = Path(tempfile.mkdtemp(prefix="neurcomp-x-"))
        (folder / "Xauthority").write_bytes(_cookie())
        ours, answer = _keep(folder, [server, f":{number}", "-screen", "0", f"{size}x24", *_OPTIONS])
        up = _answers(answer)
        os.close(answer)
        if up:
            # The program that takes this process's place holds the pipe without knowing of it.
            os.set_inheritable(ours, True)
            return {"DISPLAY": f":{number}", "XAUTHORITY": str(folder / "Xauthority")}
        log = folder / "log"
        said = " ".join(log.read_text(errors="replace").split())[-300:] if log.exists() else ""
        os.close(ours)
    raise NeurCompError(f"the virtual X server '{server}' did not start: {said or 'it says nothing'}")


def _keep(folder: Path, command: Sequence[str]) -> tuple[int, int]:
    """Start a server and its keeper: the pipe that keeps them alive, and the one that tells when it is up."""
    alive, ours = os.pipe()
    answer, number = os.pipe()
    arguments = [*command, "-auth", str(folder / "Xauthority"), "-displayfd", "3"]
    try:
        subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, str(folder), *arguments],
            # None of the caller's streams: who reads those to their end must not wait for a server.
            stdin=alive,
            stdout=number,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        os.close(alive)
        os.close(number)
    return ours, answer


def _cookie() -> bytes:
    """An Xauthority file that lets in whoever can read it: any address, any display number."""
    name, key = b"MIT-MAGIC-COOKIE-1", secrets.token_bytes(16)
    wild = 0xFFFF
    return struct.pack(f">HHHH{len(name)}sH16s", wild, 0, 0, len(name), name, len(key), key)


def _answers(handle: int) -> bool:
    """Whether a server says that it is up before it ends or time is over."""
    text = b""
    # To the end of the line: number and newline come apart, and a server that cannot write the second gives up.
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([handle], [], [], _PATIENCE)
        part = os.read(handle, 64) if ready else b""
        if not part:
            return False
        text += part
    return True
