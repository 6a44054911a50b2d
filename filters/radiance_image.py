"""Images with density and colour taken as radiance fields, and colours that a volume mapper shows as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataObject

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.radiance.dataset import WHITE
from neurcomp_core.radiance.export import COLOR, DENSITY, SH
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_filters.bridge import fields_from_vtk

RGBA = "rgba"
#: Length in voxels whose opacity is the alpha of `rgba`: 8 bits then hold thin fog and solid surfaces.
ALPHA_VOXELS = 4.0
# The constant spherical harmonic: what a direction-independent colour is a multiple of.
_CONSTANT = 0.5 / np.sqrt(np.pi)


@dataclass(frozen=True)
class Names:
    """Arrays that make a radiance field.

    Attributes
    ----------
    density : str
        One component, per unit length once it is multiplied by `scale`; negative counts as none.
    color : str
        Three components (RGBA's first three), floats or unsigned integers of full range; empty or "None" for none.
    sh : str
        3 k coefficients, red's first (`SparseGrid.sh`); comes before `color`. Empty or "None" for none.
    scale : float
    """

    density: str = DENSITY
    color: str = COLOR
    sh: str = SH
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Placed:
    """A grid whose axes are those of an image that need not be the world's.

    Attributes
    ----------
    grid : SparseGrid
        In coordinates of which `rotation` makes world coordinates. Colours depend on directions in the world.
    rotation : ndarray ``(3, 3)``
        Columns are the image's axes.
    """

    grid: SparseGrid
    rotation: np.ndarray


def to_volume(
    image: vtkDataObject, names: Names | None = None, background: Sequence[float] = WHITE, name: str = "radiance"
) -> RadianceVolume:
    """An image's density and colour as a radiance field that codecs take.

    Parameters
    ----------
    image : vtkImageData
        Point data: samples are the centres of voxels, so the box is half a spacing larger all around. Cell data: the
        box is the image's own.
    names : Names, optional
    background : sequence of 3 float
        Colour behind it.
    name : str

    Raises
    ------
    InputError
        If an array is missing or of the wrong kind, or the axes of the image are rotated.
    """
    placed = to_grid(image, names)
    if not np.allclose(placed.rotation, np.eye(3), atol=1e-9):
        raise InputError(
            "the image's axes are rotated (its direction matrix is not the identity); a radiance field has a box along "
            "the world's axes: resample it with Resample To Image first"
        )
    red, green, blue = map(float, background)
    return RadianceVolume(placed.grid, placed.grid.box, background=(red, green, blue), name=name)


def to_grid(image: vtkDataObject, names: Names | None = None) -> Placed:
    """An image's density and colour as a sparse grid along the image's own axes; see `to_volume`.

    Voxels without a value (NaN, hidden, ghosts) are empty, and so are those which no ray can tell from empty ones.
    """
    names = names or Names()
    chosen = [n for n in dict.fromkeys((names.density, _some(names.sh) or _some(names.color))) if n]
    return grid_of(fields_from_vtk(image, _present(image, names, chosen)), names)


def grid_of(fields: Sequence[Field], names: Names | None = None) -> Placed:
    """`to_grid` of arrays that are fields already.

    Raises
    ------
    InputError
        If an array is missing or of the wrong kind.
    """
    names = names or Names()
    density = _named(fields, names.density)
    if density is None:
        raise InputError(f"there is no density array '{names.density}'; choose one")
    seen = _named(fields, names.sh, density) or _named(fields, names.color, density)
    if seen is None:
        raise InputError("there is neither a colour nor a spherical-harmonics array on the grid of the density")
    if not isinstance(density.geometry, UniformGrid):
        raise InputError("radiance fields need equal voxels, this grid is rectilinear: apply Resample To Image first")
    if density.values.ndim != 3:
        raise InputError(f"density '{density.name}': expected one component, got {density.components}")
    if not (np.isfinite(names.scale) and names.scale > 0):
        raise InputError(f"density scale: expected a positive number, got {names.scale:g}")
    sh = _harmonics(seen) if seen.name == _some(names.sh) else _constant(seen)
    sigma = density.values.astype(np.float32) * np.float32(names.scale)
    there = np.isfinite(sigma) & np.isfinite(sh).all(axis=(3, 4)) & ~_hidden(density) & ~_hidden(seen)
    sigma, sh = np.where(there, sigma, 0), np.where(there[..., None, None], sh, 0)
    # A sample has weight only where one of the eight around it is dense: others change no picture.
    keep = dilated(sigma > 0) & ((sigma != 0) | (sh != 0).any(axis=(3, 4)))
    box, rotation = _box(density.geometry, density.association)
    return Placed(SparseGrid.from_dense(sigma, sh, box, keep), rotation)


def rgba(density: Field, color: Field) -> Field:
    """Colour and opacity in four unsigned bytes, for mappers that show such arrays as they are.

    Alpha is 255 times the opacity of `alpha_length`, ``1 - exp(-density length)``.
    """
    length = alpha_length(density)
    out = np.empty((*density.values.shape, 4), np.uint8)
    out[..., :3] = np.rint(np.clip(np.nan_to_num(color.values[..., :3]), 0, 1) * 255)
    out[..., 3] = np.rint(-np.expm1(-np.maximum(np.nan_to_num(density.values), 0) * length) * 255)
    return replace(density, values=out, name=RGBA, mask=None)


def alpha_length(field: Field) -> float:
    """Length whose opacity is the alpha of `rgba` on the grid of `field`, in its units."""
    assert isinstance(field.geometry, UniformGrid)
    return ALPHA_VOXELS * min(field.geometry.spacing)


def opacity_points(length: float) -> list[float]:
    """Opacity of one unit of length over the alpha of `rgba`, as ParaView's transfer functions have their points.

    Parameters
    ----------
    length : float
        `alpha_length`.
    """
    alpha = np.arange(256)
    opacity = -np.expm1(np.log1p(-np.minimum(alpha, 254.5) / 255) / length)
    return np.stack([alpha, opacity, np.full(256, 0.5), np.zeros(256)], 1).reshape(-1).tolist()


def _some(name: str) -> str:
    """ParaView's choice of no array is an empty one."""
    return "" if name == "None" else name


def _present(image: vtkDataObject, names: Names, chosen: list[str]) -> list[str]:
    """`chosen`, or the colours where harmonics of the usual name are not there."""
    if names.sh == SH and _some(names.color):
        known = {field.name for field in fields_from_vtk(image)}
        if SH not in known:
            return [names.density, names.color]
    return chosen


def _named(fields: Sequence[Field], name: str, like: Field | None = None) -> Field | None:
    for field in fields:
        if field.name == name and (like is None or field.association == like.association):
            return field
    return None


def _harmonics(field: Field) -> np.ndarray:
    """``(z, y, x, 3, k)`` float32."""
    if field.values.ndim != 4 or field.components not in (3, 12, 27, 48, 75):
        raise InputError(
            f"spherical harmonics '{field.name}': expected 3, 12, 27, 48 or 75 components (1, 4, 9, 16 or 25 for each "
            f"of red, green, blue), got {field.components}"
        )
    return field.values.reshape(*field.values.shape[:3], 3, -1).astype(np.float32)


def _constant(field: Field) -> np.ndarray:
    """Coefficients ``(z, y, x, 3, 1)`` of a colour that is the same from everywhere."""
    values = field.values
    if values.ndim != 4 or field.components not in (3, 4):
        raise InputError(f"colour '{field.name}': expected 3 or 4 components, got {field.components}")
    if values.dtype.kind == "i":
        raise InputError(f"colour '{field.name}': expected floats from 0 to 1 or unsigned integers, got {values.dtype}")
    full = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
    return ((values[..., :3, None].astype(np.float32) / np.float32(full) - 0.5) / _CONSTANT).astype(np.float32)


def _hidden(field: Field) -> np.ndarray:
    if field.mask is None:
        return np.zeros(field.values.shape[:3], bool)
    return field.mask if field.mask.ndim == 3 else np.asarray(field.mask.any(axis=3))


def _box(geometry: UniformGrid, association: str) -> tuple[np.ndarray, np.ndarray]:
    """Faces ``(2, 3)`` along the image's axes, and these ``(3, 3)``."""
    spacing = np.array(geometry.spacing)
    if not (spacing > 0).all():
        raise InputError(f"the image's spacing is {geometry.spacing}; expected positive numbers")
    rotation = np.array(geometry.direction).reshape(3, 3)
    if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-6):
        raise InputError(
            "the image's axes are not orthogonal (see its direction matrix): apply Resample To Image first"
        )
    first, last = np.array(geometry.extent[::2], float), np.array(geometry.extent[1::2], float)
    if association == "point":
        first, last = first - 0.5, last + 0.5
    else:
        last = np.maximum(last, first + 1)  # a flat axis has one layer of cells
    origin = rotation.T @ np.array(geometry.origin)
    return np.stack([origin + first * spacing, origin + last * spacing]), rotation
