"""Codec ``sperr``: SPERR through the C interface of the library that the package ``hdf5plugin`` carries.

Li, Lindstrom, Clyne, "Lossy Scientific Data Compression With SPERR", IPDPS 2023. HDF5 itself is not used, so there is
none to clash with ParaView's.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import struct
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core import peer
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.errors import FormatError, InputError, MissingExtraError
from neurcomp_core.field import Field
from neurcomp_core.target import BUDGET_FLOOR, Bytes, MaxError, Target

_RATE, _PSNR, _BOUND = 1, 2, 3
#: SPERR does not return for much more than this, which is beyond float64 in any case.
_FINEST_DB = 290.0


@dataclass(frozen=True)
class Sperr(peer.Peer):
    """CDF 9/7 wavelets and SPECK over the whole volume as one chunk, and outlier correction under an error bound.

    Attributes
    ----------
    rate : bool
        Cut the bits off at a size instead of quantising for a PSNR.
    """

    id = 11
    name = "sperr"

    rate: bool = False

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Quantise for a PSNR or, since the sizes of that have gaps, cut; what uses the target better."""
        found = super().encode(field, target, context)
        full = isinstance(target, Bytes) and found.nbytes >= BUDGET_FLOOR * target.value
        if self.rate or full or isinstance(target, MaxError):
            return found
        cut = replace(self, rate=True).encode(field, target, context)
        return sorted((found, cut), key=lambda e: e.nbytes)[-1 if isinstance(target, Bytes) else 0]

    def shrink(self, plane: np.ndarray, error: float, bound: bool, context: Context) -> bytes:
        """Code to a PSNR of ``20 log10(range / error)``, or within the bound; see `Peer.shrink`."""
        ratio = (float(plane.max()) - float(plane.min())) / error
        if bound:
            mode, quality = _BOUND, error
        elif self.rate:
            # About what a Gaussian of that variance takes; anything that falls with the error would do.
            mode, quality = _RATE, min(max(math.log2(1 + ratio**2) / 2, 1e-6), 63.0)
        else:
            mode, quality = _PSNR, min(max(20 * math.log10(ratio), 1e-3), _FINEST_DB) if ratio > 0 else 1e-3
        dims = _dims(plane.shape)
        out, size = ctypes.c_void_p(), ctypes.c_size_t()
        status = _library().sperr_comp_3d(
            plane.ctypes.data, plane.dtype == np.float32, *dims, *dims, mode, quality, context.threads,
            ctypes.byref(out), ctypes.byref(size),
        )  # fmt: skip
        try:
            if status:
                raise InputError(f"SPERR cannot code an array of shape {plane.shape} (its status is {status})")
            return ctypes.string_at(out, size.value)
        finally:
            _free()(out)

    @classmethod
    def expand(cls, stream: bytes, shape: tuple[int, ...], dtype: np.dtype, context: Context) -> np.ndarray:
        """Decode; see `Peer.expand`."""
        dims = _dims(shape)
        # SPERR allocates what its header says: a byte of version, one of flags, and x, y, z.
        if len(stream) < 14 or struct.unpack_from("<3I", stream, 2) != dims:
            raise FormatError(f"sperr: the stream is not one of an array of shape {shape}")
        out, found = ctypes.c_void_p(), (ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_size_t())
        status = _library().sperr_decomp_3d(
            stream, len(stream), dtype == np.float32, context.threads, *map(ctypes.byref, found), ctypes.byref(out)
        )
        try:
            if status:
                raise FormatError(f"sperr: the stream cannot be decoded (SPERR's status is {status})")
            return np.frombuffer(ctypes.string_at(out, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        finally:
            _free()(out)


def _dims(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Sizes along x, y, z as SPERR codes them best: a slice has one z, a line runs along z."""
    sizes = [n for n in reversed(shape) if n > 1]
    if len(sizes) == 1:
        return 1, 1, sizes[0]
    x, y, z = sizes + [1] * (3 - len(sizes))
    return x, y, z


@cache
def _library() -> Any:
    spec = importlib.util.find_spec("hdf5plugin")
    if spec is None:
        raise MissingExtraError(
            "the codec sperr needs the Python package 'hdf5plugin'; install it with: pip install 'neurcomp[peers]'"
        )
    folder = Path((spec.submodule_search_locations or [""])[0])
    try:
        library = ctypes.CDLL(str(next(folder.glob("plugins/libh5sperr.*"))), peer.DEEP)
        comp, decomp = library.sperr_comp_3d, library.sperr_decomp_3d
        _free()
    except (StopIteration, OSError, AttributeError, TypeError) as error:
        raise MissingExtraError(
            f"the codec sperr cannot use the SPERR library of 'hdf5plugin' on this system ({error}); "
            "choose another codec"
        ) from error
    size, out = ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
    comp.argtypes = [ctypes.c_void_p, ctypes.c_int, *[size] * 6, ctypes.c_int, ctypes.c_double, size, out,
                     ctypes.POINTER(size)]  # fmt: skip
    decomp.argtypes = [ctypes.c_char_p, size, ctypes.c_int, size, *[ctypes.POINTER(size)] * 3, out]
    return library


@cache
def _free() -> Any:
    """C's ``free``, which SPERR's results are returned to."""
    free = ctypes.CDLL(None).free
    free.argtypes, free.restype = [ctypes.c_void_p], None
    return free
