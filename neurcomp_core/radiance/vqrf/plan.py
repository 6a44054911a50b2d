"""How much of a field a compression leaves: what its targets turn when quantiser steps alone do not reach them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurcomp_core.errors import InputError


@dataclass(frozen=True)
class Plan:
    """How much of a field is left.

    Attributes
    ----------
    prune : float
        Voxels that together carry this share of importance stay.
    keep : float
        Of these, those that together carry this share keep features of their own.
    codes : int
        Most codes that the others share; they are no more than an eighth of these voxels.
    price : float
        Of indices, see `codebook.agreeing`.
    """

    prune: float = 0.9999
    keep: float = 0.4
    codes: int = 4096
    price: float = 1.0

    def __post_init__(self) -> None:
        for name in ("prune", "keep"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.price < 100:
            raise InputError(f"price: expected 0 to 100, got {self.price}")
        if not 0 <= self.codes <= 1 << 16:
            raise InputError(f"codes: expected 0 to {1 << 16}, got {self.codes}")
        if not self.codes and self.keep < 1:
            raise InputError("keep: expected 1 without a codebook, since voxels without features of their own need one")

    def sparser(self) -> Plan:
        """Less of everything."""
        prune, keep = max(1 - 2 * (1 - self.prune), 0.0), self.keep if self.keep == 1 else 0.6 * self.keep
        return replace(self, prune=prune, keep=keep, codes=self.codes // 2 or self.codes)

    def richer(self) -> Plan:
        """More of everything; after a few times everything."""
        prune, keep = 1 - (1 - self.prune) / 5, 1 - (1 - self.keep) / 3
        prune, keep = 1.0 if prune > 1 - 1e-7 else prune, 1.0 if keep > 0.97 else keep
        return replace(self, prune=prune, keep=keep, codes=min(2 * self.codes, 1 << 14), price=self.price / 2)
