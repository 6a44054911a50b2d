"""Inputs that are neither images nor rectilinear grids: what to tell the user, and the way to turn them into images."""

from __future__ import annotations

from typing import Any

from vtkmodules.vtkCommonDataModel import (
    vtkCompositeDataSet,
    vtkDataObject,
    vtkDataSet,
    vtkImageData,
    vtkRectilinearGrid,
    vtkStructuredGrid,
)

from neurcomp_core.errors import InputError


def is_regular(dataset: vtkDataObject | None) -> bool:
    """Whether `dataset` is an image or a rectilinear grid."""
    return isinstance(dataset, (vtkImageData, vtkRectilinearGrid))


def suggested_dimensions(dataset: vtkDataSet) -> tuple[int, int, int]:
    """Samples per axis of an image over the bounds of `dataset` that has about as many points as it."""
    bounds = dataset.GetBounds()
    lengths = [max(bounds[2 * i + 1] - bounds[2 * i], 0.0) for i in range(3)]
    solid = [length for length in lengths if length > 0]
    if not solid:
        return (1, 1, 1)
    volume = 1.0
    for length in solid:
        volume *= length
    spacing = (volume / max(dataset.GetNumberOfPoints(), 1)) ** (1 / len(solid))
    x, y, z = (max(2, round(length / spacing) + 1) if length > 0 else 1 for length in lengths)
    return (x, y, z)


def check_regular(dataset: vtkDataObject | None) -> None:
    """Accept images and rectilinear grids; for others, say how to make one of them.

    Raises
    ------
    InputError
        With the filter to apply and sampling dimensions that fit.
    """
    if dataset is None:
        raise InputError("there is no input data set")
    if is_regular(dataset):
        return
    if isinstance(dataset, vtkCompositeDataSet) or not isinstance(dataset, vtkDataSet):
        raise InputError(
            f"expected an image or a rectilinear grid, got {dataset.GetClassName()}; extract one block of it first"
        )
    kind = "a curvilinear grid" if isinstance(dataset, vtkStructuredGrid) else "not a regular grid"
    dimensions = " x ".join(map(str, suggested_dimensions(dataset)))
    raise InputError(
        f"the input is {kind} ({dataset.GetClassName()}) and only images and rectilinear grids can be compressed: "
        f"apply Resample To Image first (sampling dimensions of {dimensions} give about as many points), "
        "or turn on 'Resample To Image' here"
    )


def resampled(dataset: vtkDataSet, dimensions: tuple[int, int, int]) -> vtkImageData:
    """`dataset` sampled over its bounds; samples outside its cells are marked as hidden ghosts."""
    from vtkmodules.vtkFiltersCore import vtkResampleToImage

    sampler: Any = vtkResampleToImage()
    sampler.SetInputDataObject(dataset)
    sampler.UseInputBoundsOn()
    sampler.SetSamplingDimensions(*dimensions)
    sampler.Update()
    image = sampler.GetOutput()
    # The mask repeats what vtkGhostType says.
    image.GetPointData().RemoveArray("vtkValidPointMask")
    return image
