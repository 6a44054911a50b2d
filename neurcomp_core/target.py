"""What the user asks for: a quality or a size.

A target is a promise: ``compress`` measures the decoded bytes and fails if the target is missed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from neurcomp_core.errors import InputError
from neurcomp_core.metrics import Quality

#: A size budget is used to at least this share, and never exceeded.
BUDGET_FLOOR = 0.97


@dataclass(frozen=True)
class Target:
    """Base of all targets; `value` must be positive and finite, or 0 where a kind says so."""

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise InputError(f"{self.label}: expected a positive finite number, got {self.value!r}")

    @property
    def label(self) -> str:
        """Name as the command line spells it."""
        return type(self).__name__.lower()

    def __str__(self) -> str:
        return f"{self.label} {self.value:g}"

    def budget(self, raw_bytes: int) -> int | None:
        """Bytes the whole file may have, or None for a quality target."""
        return None

    def met(self, quality: Quality) -> bool:
        """Whether a measured quality satisfies a quality target (size targets: always)."""
        return True


@dataclass(frozen=True)
class Psnr(Target):
    """Peak signal-to-noise ratio of at least `value` dB (see `metrics.psnr`)."""

    def met(self, quality: Quality) -> bool:
        return quality.psnr >= self.value


@dataclass(frozen=True)
class MaxError(Target):
    """No sample off by more than `value`, in the units of the data; 0 is lossless, of integers."""

    def __post_init__(self) -> None:
        if self.value != 0:
            super().__post_init__()

    @property
    def label(self) -> str:
        return "max-error"

    def met(self, quality: Quality) -> bool:
        return quality.max_error <= self.value


@dataclass(frozen=True)
class RelativeError(Target):
    """No sample off by more than `value` times the data's range."""

    @property
    def label(self) -> str:
        return "relative-error"

    def met(self, quality: Quality) -> bool:
        return quality.max_error <= self.value * quality.range


@dataclass(frozen=True)
class Rmse(Target):
    """Root of the mean squared error of at most `value`, in the units of the data."""

    def met(self, quality: Quality) -> bool:
        return quality.rmse <= self.value


@dataclass(frozen=True)
class L2Error(Target):
    """Euclidean norm of the error of at most `value` times that of the data; the pipeline turns it into an `Rmse`."""

    @property
    def label(self) -> str:
        return "l2-error"


@dataclass(frozen=True)
class Ratio(Target):
    """Raw bytes divided by file bytes: the file takes 97-100 % of ``raw / value``."""

    def budget(self, raw_bytes: int) -> int:
        return int(raw_bytes / self.value)


@dataclass(frozen=True)
class Bytes(Target):
    """The file takes 97-100 % of `value` bytes."""

    def budget(self, raw_bytes: int) -> int:
        return int(self.value)


@dataclass(frozen=True)
class PsnrLoss(Target):
    """Of radiance fields only: mean PSNR over images at most `value` dB below that of the uncompressed field."""

    @property
    def label(self) -> str:
        return "psnr-loss"


#: Kinds of target of arrays by the names that `parse_targets` takes.
KINDS: dict[str, type[Target]] = {
    "ratio": Ratio,
    "bytes": Bytes,
    "psnr": Psnr,
    "max-error": MaxError,
    "relative-error": RelativeError,
    "rmse": Rmse,
    "l2-error": L2Error,
}


def parse_targets(text: str) -> tuple[Target, ...]:
    """Targets from a text such as ``psnr:30,40 ratio:50``, in its order and without repetitions.

    Raises
    ------
    InputError
        If there is none, a kind is unknown or a value is no positive number.
    """
    found: dict[Target, None] = {}
    for part in re.sub(r"\s*([:,])\s*", r"\1", text).split():
        name, _, values = part.partition(":")
        if name not in KINDS or not values:
            raise InputError(
                f"targets: expected KIND:VALUE,VALUE like psnr:30,40 with one of {', '.join(KINDS)}, got '{part}'"
            )
        for value in values.split(","):
            try:
                found[KINDS[name](float(value))] = None
            except ValueError:
                raise InputError(f"targets: {name}: expected a number, got '{value}'") from None
    if not found:
        raise InputError("targets: expected at least one, like psnr:30,40 ratio:50; got none")
    return tuple(found)
