"""Results on their way from a GPU to the host's arrays, beside the work on the next ones.

The side stream copies what the compute stream has finished. Into page-locked memory (`page_locked`) it copies at once,
so that the array a user gets is the one that the device wrote to; any other memory is filled from two page-locked
buffers in turn, while the device goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import torch

#: Parts that may be on their way at a time: one that is copied, one that is computed.
_UNDERWAY = 2


def page_locked(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array in memory that a GPU copies to by itself; torch keeps such memory for the next one."""
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.empty(max(size, 1), dtype=torch.uint8, pin_memory=True).numpy()[:size].view(dtype).reshape(shape)


class Copier:
    """Copies parts of a result from `device` to the host, in order.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._underway: deque[tuple[torch.cuda.Event, Callable[[], None]]] = deque()
        self._buffers: list[torch.Tensor] = []

    def put(self, part: torch.Tensor, target: np.ndarray, store: Callable[[np.ndarray, np.ndarray], None]) -> None:
        """Have `target` filled from `part` sometime before `finish` returns.

        Parameters
        ----------
        part : Tensor
            Contiguous, of the shape of `target`.
        target : ndarray
            Contiguous.
        store : callable
            ``store(target, values)`` where a plain copy does not do: types differ, or `target` is not page-locked.
        """
        if self._stream is None:
            store(target, part.numpy())
            return
        while len(self._underway) >= _UNDERWAY:
            self._arrived()
        goal = torch.from_numpy(target) if target.dtype == np.float32 else None
        done: Callable[[], None] = _nothing
        if goal is None or not goal.is_pinned():
            goal = buffer = self._buffer(part)
            done = lambda: self._stored(buffer, target, store)  # noqa: E731
        self._stream.wait_stream(torch.cuda.current_stream(part.device))
        with torch.cuda.stream(self._stream):
            goal.copy_(part, non_blocking=True)
            # Its memory is not to be given to others before it is copied.
            part.record_stream(self._stream)
            event = torch.cuda.Event()
            event.record(self._stream)
        self._underway.append((event, done))

    def finish(self) -> None:
        """Wait for everything."""
        while self._underway:
            self._arrived()

    def _arrived(self) -> None:
        event, done = self._underway.popleft()
        event.synchronize()
        done()

    def _buffer(self, part: torch.Tensor) -> torch.Tensor:
        """Page-locked memory in the shape of `part`, of a part before it if there is any."""
        for i, buffer in enumerate(self._buffers):
            if buffer.numel() >= part.numel():
                del self._buffers[i]
                return buffer[: part.numel()].view(part.shape)
        return torch.empty(part.numel(), dtype=part.dtype, pin_memory=True).view(part.shape)

    def _stored(
        self, buffer: torch.Tensor, target: np.ndarray, store: Callable[[np.ndarray, np.ndarray], None]
    ) -> None:
        store(target, buffer.numpy())
        self._buffers.append(buffer.view(-1))


def _nothing() -> None:
    """What is to be done where a copy is all."""
