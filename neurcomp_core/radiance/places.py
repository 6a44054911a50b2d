"""Where radiance fields are trained and rendered, and by what: `Place`, from a run's device and backend."""

from __future__ import annotations

from dataclasses import dataclass

from neurcomp_core.errors import InputError
from neurcomp_core.nets.backends import chosen
from neurcomp_core.nets.devices import on_cuda


@dataclass(frozen=True)
class Place:
    """A device and what computes there.

    Attributes
    ----------
    device : str
        ``cpu`` or ``cuda``.
    backend : str
        ``numba``, ``torch`` or ``triton``.
    named : bool
        Whether the user asked for this backend.
    """

    device: str
    backend: str
    named: bool = False

    @classmethod
    def of(cls, device: str = "auto", backend: str = "auto") -> Place:
        """What a user's ``--device`` and ``--backend`` stand for here; torch is not loaded where it is not needed.

        Raises
        ------
        InputError
            If there is no such device, the backend cannot run there, or it does not know radiance fields.
        """
        kind = "cuda" if on_cuda(device) else "cpu"
        if kind == "cpu" and backend in ("auto", "numba"):
            return HOST
        if backend == "tinycudann":
            raise InputError("backend tinycudann: it knows no radiance fields; use triton or torch")
        return cls(kind, chosen(backend, kind).name, backend != "auto")

    @property
    def host(self) -> bool:
        """Whether NumPy and compiled CPU kernels do it, without torch."""
        return self.backend == "numba"


#: The CPU's kernels, which everything else is measured against.
HOST = Place("cpu", "numba")
