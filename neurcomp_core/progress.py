"""Progress reports, cancellation and time limits of long work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from neurcomp_core.errors import Cancelled, TimeLimitReached

Report = Callable[[float, str], None]


class Progress:
    """One run's progress: reports go out, a request to stop comes in.

    Parameters
    ----------
    report : callable, optional
        Called as ``report(fraction, text)`` with ``0 <= fraction <= 1`` on the worker's thread.
    time_limit : float, optional
        Seconds, counted from construction.
    """

    def __init__(self, report: Report | None = None, time_limit: float | None = None) -> None:
        self._report = report
        self._cancelled = threading.Event()
        self._limit = time_limit
        self._start = time.monotonic()
        self._span = (0.0, 1.0)
        self._last = 0.0
        #: What `note` was told, in order.
        self.notes: list[str] = []

    @property
    def elapsed(self) -> float:
        """Seconds since construction."""
        return time.monotonic() - self._start

    def cancel(self) -> None:
        """Ask the worker to stop; safe from any thread and from a signal handler."""
        self._cancelled.set()

    def within(self, low: float, high: float) -> None:
        """Map the fractions that follow onto [low, high] of the whole (one array of several, one stage of a search)."""
        self._span = (low, high)

    def update(self, fraction: float, text: str = "") -> None:
        """Report, then raise if the run must end.

        Raises
        ------
        Cancelled
            After `cancel`.
        TimeLimitReached
            After the time limit.
        """
        low, high = self._span
        # Never backwards: a search that starts a stage anew must not make a progress bar jump.
        self._last = max(self._last, low + (high - low) * min(max(fraction, 0.0), 1.0))
        if self._report is not None:
            self._report(self._last, text)
        self.check()

    def part(self, low: float, high: float, label: str = "") -> Progress:
        """Progress of a stage: its fractions become [low, high] of this one's, its texts begin with `label`."""
        head = f"{label}: " if label else ""
        stage = Progress(lambda done, text: self.update(low + (high - low) * done, head + text))
        stage.notes = self.notes
        return stage

    def note(self, text: str) -> None:
        """Keep a remark for the report: what went otherwise than asked, though nothing failed."""
        if text not in self.notes:
            self.notes.append(text)
            if self._report is not None:
                self._report(self._last, text)

    def check(self) -> None:
        """Raise if the run must end, without a report."""
        if self._cancelled.is_set():
            raise Cancelled("stopped by the user before the target was met")
        if self._limit is not None and self.elapsed > self._limit:
            raise TimeLimitReached(
                f"the time limit of {self._limit:g} s ended the run before it was complete; "
                "give it more time, a faster preset or a lower target"
            )
