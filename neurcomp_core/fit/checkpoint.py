"""Trainings kept in a file, so that a run that was killed goes on where it was.

A run may train several networks one after the other (a search for a quality, a split with a residual). Each training
has a key, made of all that decides its result; the file keeps the result of each finished one and the last state of the
one under way. A run that is started again finds the finished ones there and goes on within the other. Files are NumPy
archives without pickled objects, replaced atomically.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write, checked_path

#: Seconds between two writes of a training under way.
EVERY = 20.0
_FORMAT = "neurcomp checkpoint 1"

State = Mapping[str, np.ndarray]


def key_of(*parts: Any) -> str:
    """A training's key: a digest of what decides its result; fields by their values and mask, others by their text."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Field):
            digest.update(f"{part.values.shape} {part.values.dtype}".encode())
            digest.update(np.ascontiguousarray(part.values).tobytes())
            if part.mask is not None:
                digest.update(part.mask.tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


class Checkpoint:
    """The checkpoint of one training.

    Parameters
    ----------
    path : Path or None
        File; without one nothing is kept.
    key : str
        See `key_of`.

    Raises
    ------
    InputError
        If the file is not a checkpoint, or another training was under way in it.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self._arrays: dict[str, np.ndarray] = {}
        self._finished: list[str] = []
        self._under_way = ""
        self._written = time.monotonic()
        if path is None:
            return
        checked_path(path)
        if path.exists():
            self._load(path)
        if self._under_way and self._under_way != key and key not in self._finished:
            raise InputError(
                f"checkpoint '{path}' is of another run: expected the same data, target, codec parameters and seed; "
                "give these, or another file, or delete it to start anew"
            )

    @property
    def finished(self) -> bool:
        """Whether the training is complete, and `state` its result."""
        return self.key in self._finished

    @property
    def state(self) -> State | None:
        """What was kept of the training, if anything."""
        if self.path is None or not (self.finished or self._under_way == self.key):
            return None
        head = self.key + "/"
        return {name[len(head) :]: array for name, array in self._arrays.items() if name.startswith(head)}

    def offer(self, state: Callable[[], State]) -> None:
        """Keep a state if the last one is old."""
        if self.path is not None and time.monotonic() - self._written >= EVERY:
            self._keep(state(), done=False)

    def keep(self, state: Callable[[], State]) -> None:
        """Keep a state."""
        if self.path is not None and not self.finished:
            self._keep(state(), done=False)

    def finish(self, state: Callable[[], State]) -> None:
        """Keep a training's result."""
        if self.path is not None:
            self._keep(state(), done=True)

    def damaged(self, error: Exception) -> InputError:
        """What to raise where a state is not this training's."""
        return InputError(f"checkpoint '{self.path}' does not fit this run ({error}); delete it to start anew")

    def _keep(self, state: State, done: bool) -> None:
        assert self.path is not None
        head = self.key + "/"
        self._arrays = {name: a for name, a in self._arrays.items() if name.split("/")[0] in self._finished}
        self._arrays |= {head + name: array for name, array in state.items()}
        self._under_way = "" if done else self.key
        if done:
            self._finished.append(self.key)
        about = json.dumps({"format": _FORMAT, "finished": self._finished, "under_way": self._under_way})
        buffer = io.BytesIO()
        np.savez(buffer, about=np.frombuffer(about.encode(), np.uint8), **self._arrays)  # type: ignore[arg-type]
        atomic_write(self.path, buffer.getbuffer())
        self._written = time.monotonic()

    def _load(self, path: Path) -> None:
        try:
            if not zipfile.is_zipfile(path):
                raise ValueError("expected a NumPy archive")
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = json.loads(arrays.pop("about").tobytes())
            if about["format"] != _FORMAT:
                raise ValueError(f"expected '{_FORMAT}', got '{about['format']}'")
            self._finished, self._under_way = list(about["finished"]), str(about["under_way"])
            self._arrays = arrays
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"'{path}' is no checkpoint that can be read ({text}); delete it to start anew, or give another file"
            ) from error
