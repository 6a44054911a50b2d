"""h5py, loaded so that it also works inside ParaView."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from neurcomp_core.errors import require


def h5py(purpose: str) -> ModuleType:
    """The module h5py, or MissingExtraError.

    ParaView brings an HDF5 library of its own; without deep binding h5py would call into that one and fail.
    """
    if "h5py" in sys.modules or not hasattr(os, "RTLD_DEEPBIND"):
        return require("h5py", "hdf5", purpose)
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        return require("h5py", "hdf5", purpose)
    finally:
        sys.setdlopenflags(flags)
