"""Batches of samples for a sine network: every sample once a pass, in random order."""

from __future__ import annotations

import json

import numpy as np

from neurcomp_core.field import Field
from neurcomp_core.fit.siren_gradients import differences
from neurcomp_core.nets.siren import Siren, axis_coordinates
from neurcomp_core.nets.siren_model import padded, points_of, varying

#: Fields of more samples are drawn from with replacement: an order of them all would not fit.
ORDERED = 1 << 24


class Batches:
    """Coordinates, values and weights as the kernels take them.

    Parameters
    ----------
    field : Field
        Masked samples are not drawn.
    net : Siren
    centre, scale : float
        A value v is fitted as ``(v - centre) / scale``.
    size : int
        Samples per batch.
    seed : int
    importance : ndarray, optional
        ``(z, y, x)``: an error of a sample is taken this many times.
    """

    def __init__(
        self,
        field: Field,
        net: Siren,
        centre: float,
        scale: float,
        size: int,
        seed: int,
        importance: np.ndarray | None = None,
    ) -> None:
        values = field.values
        self.shape = values.shape[:3]
        self.net, self.size = net, size
        self.values = _normalised(values, centre, scale)
        valid = field.valid
        self.valid = None if valid is None else valid.reshape(self.values.shape)
        #: Of importances, with a mean of 1; all 1 if None.
        self.squares: np.ndarray | None = None
        if importance is not None:
            squares = importance.reshape(-1).astype(np.float64) ** 2
            self.squares = (squares / squares.mean()).astype(np.float32)
        #: Flat indices that batches are drawn from; all if None.
        self.among = None if self.valid is None else np.flatnonzero(self.valid.any(axis=1))
        self.count = len(self.values) if self.among is None else len(self.among)
        self._axes = axis_coordinates(self.shape)
        self._inputs = varying(self.shape)
        self._rng = np.random.default_rng(seed)
        self._order = np.empty(0, np.int64)
        self._at = 0
        self._before = self._rng.bit_generator.state

    def indices(self) -> np.ndarray:
        """Flat indices of the next batch, ``(size,)``; a small field's samples come more than once."""
        if self.count > ORDERED:
            found = self._rng.integers(0, self.count, self.size)
        else:
            parts, missing = [], self.size
            while missing:
                if self._at == len(self._order):
                    self._renew()
                part = self._order[self._at : self._at + missing]
                self._at += len(part)
                missing -= len(part)
                parts.append(part)
            found = np.concatenate(parts)
        return found if self.among is None else self.among[found]

    def _renew(self) -> None:
        self._before = self._rng.bit_generator.state
        self._order, self._at = self._rng.permutation(self.count), 0

    def at(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points ``(padded inputs, n)``, targets and weights ``(padded outputs, n)`` of flat indices, float32.

        Weights of samples that are data sum to 1, others are 0.
        """
        rows, columns = self.shape[1], self.shape[2]
        rest, x = np.divmod(indices, columns)
        z, y = np.divmod(rest, rows)
        place = (z, y, x)
        points = points_of(self.net, [self._axes[a][place[a]] for a in self._inputs])
        outputs = self.net.outputs
        targets = np.zeros((padded(outputs), len(indices)), np.float32)
        weights = np.zeros_like(targets)
        targets[:outputs] = self.values[indices].T
        weights[:outputs] = 1 if self.valid is None else self.valid[indices].T
        if self.squares is not None:
            weights *= self.squares[indices]
        weights /= max(float(weights.sum(dtype=np.float64)), 1.0)
        return points, targets, weights

    def slopes(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The field's gradients as `siren_gradients.differences` has them, and weights ``(n, c)`` that sum to 1.

        A weight is 0 where the sample or a neighbour is no data.
        """
        found = differences(self.values, self.shape, self._inputs, indices)
        weights = np.ones(found.shape[:2], np.float32)
        if self.valid is not None:
            holes = np.where(self.valid, np.float32(0), np.float32(np.nan))
            weights *= self.valid[indices] & np.isfinite(differences(holes, self.shape, self._inputs, indices)).all(
                axis=2
            )
        return found, weights / max(float(weights.sum(dtype=np.float64)), 1.0)

    def state(self) -> dict[str, np.ndarray]:
        """Where the drawing is, as arrays."""
        drawn = self._before if self.count <= ORDERED else self._rng.bit_generator.state
        return {"rng": np.frombuffer(json.dumps(drawn).encode(), np.uint8), "at": np.array(self._at)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Inverse of `state`."""
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())
        at = int(state["at"])
        if self.count <= ORDERED and at:
            self._renew()
            if at > len(self._order):
                raise ValueError(f"sample {at} of {len(self._order)}")
            self._at = at


def _normalised(values: np.ndarray, centre: float, scale: float) -> np.ndarray:
    """``(samples, components)`` float32."""
    flat = values.reshape(-1, values.shape[3] if values.ndim == 4 else 1)
    out = np.empty(flat.shape, np.float32)
    part = 1 << 20
    for first in range(0, len(flat), part):
        # In float64: values far from zero keep their variation.
        out[first : first + part] = (flat[first : first + part].astype(np.float64) - centre) / scale
    return out
