"""Plenoxels as svox2 saves them: ``.npz`` with ``links``, ``density_data``, ``sh_data``, ``radius``, ``center``.

svox2 indexes voxels ``[x, y, z]``, marks empty ones by any negative link, and stores the colour coefficients as float16
``(rows, 3 * functions)``, red's first. Its sample positions, basis and activations are those of `SparseGrid`. For
NeRF-synthetic scenes its world is the data set's times 2/3.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.imports.npy import read_header

_SH = 1
_OTHER_BASES = {4: "a learned texture", 255: "a learned network"}
# Deflate cannot shrink further than this, so a larger claim is false.
_MAX_SHRINK = 1032


def load(path: Path) -> SparseGrid:
    """Read an svox2 file; rows come in the voxels' order z, y, x, unused ones are dropped.

    Raises
    ------
    FormatError
        If the file is damaged, or not of this layout.
    InputError
        If its basis functions are not spherical harmonics.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name.removesuffix(".npy") for name in archive.namelist()}

            def get(name: str, ndim: int) -> np.ndarray:
                return _array(archive, name, ndim, str(path))

            basis = int(get("basis_type", 0)) if "basis_type" in found else _SH
            if basis != _SH or "basis_data" in found:
                kind = _OTHER_BASES.get(basis, f"of type {basis}" if basis != _SH else "a learned texture")
                raise InputError(
                    f"'{path}': its basis functions are {kind}; only spherical harmonics (basis_type 1) are supported"
                )
            links = get("links", 3)
            if "data" in found:  # files of 2021 keep density and colour in one array
                rows = get("data", 2)
                density, sh = rows[:, :1], rows[:, 1:]
            else:
                density, sh = get("density_data", 2), get("sh_data", 2)
            radius = get("radius", 1) if "radius" in found else np.ones(3)
            center = get("center", 1) if "center" in found else np.zeros(3)
            background = None
            if "background_data" in found and "background_links" in found:
                layers, map_links = get("background_data", 3), get("background_links", 2)
                if layers.size:
                    background = (map_links, layers)
    except (FormatError, InputError):
        raise
    except Exception as error:  # a damaged archive can fail in any way
        raise FormatError(f"'{path}' is damaged or no svox2 file ({error})") from error
    try:
        return _grid(links, density, sh, radius, center, background)
    except InputError as error:
        raise FormatError(f"'{path}': {error}") from None


def _grid(
    links: np.ndarray,
    density: np.ndarray,
    sh: np.ndarray,
    radius: np.ndarray,
    center: np.ndarray,
    background: tuple[np.ndarray, np.ndarray] | None,
) -> SparseGrid:
    if density.shape != (len(sh), 1) or sh.shape[1] % 3:
        raise InputError(f"density_data {density.shape} and sh_data {sh.shape}: expected (rows, 1) and (rows, 3 k)")
    functions = sh.shape[1] // 3
    spherical_harmonics.degree_of(functions)
    if radius.shape != (3,) or center.shape != (3,) or not (radius > 0).all():
        raise InputError(f"radius {radius.tolist()}, center {center.tolist()}: expected three numbers, radius positive")
    links = links.transpose(2, 1, 0)
    kept = links >= 0
    rows = links[kept]
    if rows.size and rows.max() >= len(density):
        raise InputError(f"links lead to row {rows.max()} of {len(density)}")
    if rows.size > len(density):
        raise InputError(f"{rows.size} voxels share {len(density)} rows")
    numbered = np.full(links.shape, EMPTY, np.int32)
    numbered[kept] = np.arange(rows.size, dtype=np.int32)
    box = np.stack([center - radius, center + radius]).astype(np.float64)
    colors = sh.reshape(-1, 3, functions)[rows].astype(np.float32)
    layers = None
    if background is not None:
        map_links = np.where(background[0] < 0, EMPTY, background[0]).astype(np.int32)
        # Colours of the spheres are coefficients of the constant function, too.
        constant = float(spherical_harmonics.basis(np.array([[0.0, 0.0, 1.0]]), 0)[0, 0])
        data = background[1].astype(np.float32)
        if data.shape[2] == 4:
            data *= np.array([constant, constant, constant, 1], np.float32)
        layers = SphereLayers(map_links, data)
    return SparseGrid(numbered, density[rows, 0].astype(np.float32), colors, box, layers)


def _array(archive: zipfile.ZipFile, name: str, ndim: int, where: str) -> np.ndarray:
    """One array, its size checked against the archive before any memory is taken."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise FormatError(f"'{where}' has no '{name}'; expected the layout of svox2's files") from None
    if info.file_size > _MAX_SHRINK * info.compress_size + 64:
        raise FormatError(f"'{where}': '{name}' claims {info.file_size} bytes in {info.compress_size}")
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream, f"'{where}': '{name}'")
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "iuf" or len(shape) != ndim:
            raise FormatError(f"'{where}': '{name}' is {dtype} {shape}; expected numbers in {ndim} dimensions")
        if stream.tell() + size != info.file_size:
            raise FormatError(f"'{where}': '{name}' of shape {shape} should have {size} bytes; the file is damaged")
        raw = stream.read(size)
    if len(raw) != size:
        raise FormatError(f"'{where}': '{name}' is truncated")
    values = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise FormatError(f"'{where}': '{name}' holds NaN or infinite numbers")
    return values
