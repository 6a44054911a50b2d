"""What can go wrong, as a user should read it.

Every message says what was wrong, what was expected, what came, and what to do. The command line prints the
message alone and exits with the class's ``exit_code``.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class NeurCompError(Exception):
    """Base of every error this library raises on purpose."""

    exit_code = 1


class InputError(NeurCompError):
    """The data or an argument cannot be used."""

    exit_code = 2


class FormatError(NeurCompError):
    """The bytes are not what the format says they must be."""

    exit_code = 4


class TargetError(NeurCompError):
    """The requested size or quality cannot be reached.

    Parameters
    ----------
    message : str
        One sentence that also names what can be reached.
    reachable : float, optional
        The closest reachable figure, in the unit of the target.
    """

    exit_code = 5

    def __init__(self, message: str, reachable: float | None = None) -> None:
        super().__init__(message)
        self.reachable = reachable


class MissingExtraError(NeurCompError):
    """An optional dependency is not installed."""

    exit_code = 6


class Interrupted(NeurCompError):
    """A run ended before its target was met.

    ``best`` is the best result so far, or None: what a codec raises carries an ``Encoded``, what the pipeline
    raises carries the bytes of a complete, valid file.
    """

    exit_code = 130

    def __init__(self, message: str, best: object = None) -> None:
        super().__init__(message)
        self.best = best


class Cancelled(Interrupted):
    """The user stopped the run."""


class TimeLimitReached(Interrupted):
    """The time limit ended the run."""

    exit_code = 3


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say in one sentence which extra brings it.

    Raises
    ------
    MissingExtraError
        If `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the Python package '{module.split('.')[0]}' ({error}); "
            f"install it with: pip install 'neurcomp[{extra}]'"
        ) from error
