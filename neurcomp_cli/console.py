"""Terminal matters: where text goes, progress bars, Ctrl-C, and errors as one sentence."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from neurcomp_core.errors import NeurCompError
from neurcomp_core.progress import Progress

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Columns of a table when it goes to a file or a pipe, where there is no terminal to fit.
_WIDE = 160
#: Seconds between the lines of a log that is not a terminal.
_LOG_EVERY = 10.0
_STOPPING = "stopping; Ctrl-C again ends at once"


def stdout() -> Console:
    """Console for results."""
    return _console(sys.stdout)


def say(text: str) -> None:
    """One line to stderr, never wrapped or coloured: for people and for logs."""
    print(text, file=sys.stderr, flush=True)


def _console(stream: Any) -> Console:
    # Streams are looked up at each call: tests and embedders replace them.
    wide = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(file=stream, width=_WIDE if wide else None, highlight=False)


# ---------------------------------------------------------------------------------------------------------- errors


def reporting(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn what a user can cause into one sentence on stderr and an exit code; bugs keep their traceback."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except NeurCompError as error:
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("stopped", 130)
        except BrokenPipeError:
            raise  # `neurcomp info … | head`: typer leaves quietly
        except OSError as error:
            fail(_sentence_of(error), 1)
        except MemoryError as error:
            fail(f"not enough memory{f' ({error})' if str(error) else ''}; try fewer arrays or a smaller region", 1)
        except RuntimeError as error:
            # torch's own, which is no MemoryError and cannot be named here without importing torch.
            if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
                raise
            fail("the device has not enough memory; try --device cpu or a smaller --set batch=…", 1)
        raise AssertionError("fail() does not return")

    return wrapped


def fail(sentence: str, code: int) -> None:
    """Print ``neurcomp: sentence`` to stderr and leave with `code`."""
    say(f"neurcomp: {sentence}")
    raise typer.Exit(code)


def _sentence_of(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    return f"the system refused{where}: {error.strerror or error}"


# -------------------------------------------------------------------------------------------------------- progress


@contextmanager
def working(
    title: str, *, quiet: bool = False, time_limit: float | None = None, hands_over: bool = False
) -> Iterator[Progress]:
    """A `Progress` that shows on stderr.

    A terminal gets a bar with percentage, elapsed and remaining time; anything else a line every ten seconds. With
    `hands_over`, the first Ctrl-C (or SIGTERM) asks the run to stop, so that it can hand over its best result, and
    the second raises KeyboardInterrupt, as the first one does otherwise.
    """
    show = _Silent() if quiet else _Shown(title) if sys.stderr.isatty() else _Logged(title)
    with show:
        progress = Progress(show.update, time_limit)
        if hands_over:
            with _signals(lambda: (progress.cancel(), show.stopping())):
                yield progress
        else:
            yield progress
    for note in () if quiet else progress.notes:
        say(f"note: {note}")


class _Silent:
    """Shows nothing."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, fraction: float, text: str) -> None:
        pass

    def stopping(self) -> None:
        pass


class _Shown(_Silent):
    """A bar on a terminal."""

    def __init__(self, title: str) -> None:
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=sys.stderr, highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task(title, total=1.0, text="")
        self._stopping = False

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, fraction: float, text: str) -> None:
        self._bar.update(self._task, completed=fraction, text=_STOPPING if self._stopping else text)

    def stopping(self) -> None:
        self._stopping = True
        self._bar.update(self._task, text=_STOPPING)


class _Logged(_Silent):
    """Now and then a line in a log."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        # The first line after a second: it says that work has begun, and short work says nothing.
        self._last = self._start - _LOG_EVERY + 1

    def update(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LOG_EVERY:
            self._last = now
            say(f"{self._title}: {100 * fraction:.0f} % after {now - self._start:.0f} s, {text}")

    def stopping(self) -> None:
        say(f"{self._title}: {_STOPPING}")


@contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    asked = False

    def handle(number: int, _: object) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        asked = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
