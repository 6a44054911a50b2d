"""Analytic scenes as sets of posed images in public layouts: what ``neurcomp sample radiance`` writes.

| kind | cameras | layout |
| --- | --- | --- |
| inward | on the upper half of a sphere about an object | Blender: ``transforms_{train,test}.json``, RGBA |
| forward | within a disc, aimed at one region | LLFF: ``poses_bounds.npy``, ``images/`` |
| unbounded | around an object in the open | nerfstudio: ``transforms.json``, ``images/`` |
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.files import atomic_path, atomic_write
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import images, loaders
from neurcomp_core.radiance.cameras import Camera, Intrinsics, rays
from neurcomp_core.radiance.dataset import PosedImages, Split
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.scenes import Scene, scene

_GOLDEN = math.pi * (3 - math.sqrt(5))
# What `write` makes; an earlier set in the same folder is replaced, whatever its layout.
_WRITTEN = ("transforms*.json", "poses_bounds.npy", "images/view_*.png", "train/r_*.png", "test/r_*.png")
# LLFF's layout has no splits: whoever reads it tests on every eighth image.
_LLFF_HOLDOUT = 8


@dataclass(frozen=True, eq=False)
class SceneSet:
    """A scene and the cameras to look at it with, one split name per camera."""

    kind: str
    scene: Scene
    cameras: tuple[Camera, ...]
    splits: tuple[Split, ...]


def scene_set(kind: str, size: int = 100, views: int = 60, test_views: int = 10, seed: int = 0) -> SceneSet:
    """Cameras of `size` x `size` pixels about an analytic scene; the same arguments give the same set.

    Parameters
    ----------
    kind : str
        "inward", "forward" or "unbounded", see the module's table.
    size : int
        Width and height in pixels, 8 to 4096.
    views, test_views : int
        Images to train on, and unseen ones to test on. LLFF's layout splits by position, every eighth image is for
        testing, so of a forward set only the sum counts.
    seed : int
        Of the scene and of the cameras.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    if not 8 <= size <= 4096:
        raise InputError(f"size: expected 8 to 4096 pixels, got {size}")
    if views < 2 or test_views < 1 or views + test_views > 10000:
        raise InputError(f"views: expected at least 2 to train and 1 to test on, got {views} and {test_views}")
    what = scene(kind, seed)
    total = views + test_views
    if kind == "forward":
        tested = np.arange(total) % _LLFF_HOLDOUT == 0
    else:
        # Spread evenly among the others, so that a test view never stands far from what was trained on.
        tested = np.zeros(total, bool)
        tested[((np.arange(test_views) + 0.5) * total / test_views).astype(int)] = True
    angle, poses = _POSES[kind](total, np.random.default_rng((seed, 1)))
    intrinsics = Intrinsics.from_angle(angle, size, size)
    cameras = tuple(Camera(intrinsics, pose, f"view {i}") for i, pose in enumerate(poses))
    return SceneSet(kind, what, cameras, tuple("test" if t else "train" for t in tested))


def write(data: SceneSet, folder: str | os.PathLike[str], progress: Progress | None = None) -> PosedImages:
    """Ray-trace the set into `folder`, which is made where there is none, and read it back.

    Files of an earlier set there are removed; the file that makes the folder a set comes last.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    progress = progress or Progress()
    root = Path(folder)
    names = _picture_names(data)
    try:
        for old in (path for pattern in _WRITTEN for path in root.glob(pattern)):
            old.unlink()
        for parent in {(root / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to '{folder}': {error.strerror or error}") from error
    for i, (camera, name) in enumerate(zip(data.cameras, names, strict=True)):
        progress.update(i / len(names), f"ray tracing view {i + 1} of {len(names)}")
        images.write_png(root / name, data.scene.render(camera))
    _LAYOUTS[data.kind](data, root, names)
    progress.update(1.0, "done")
    return loaders.load(root)


# ----------------------------------------------------------------------------------------------------------- poses


def _inward(count: int, draw: np.random.Generator) -> tuple[float, list[np.ndarray]]:
    """A golden spiral from the pole down to just below the equator."""
    height = np.sin(np.linspace(np.pi / 2 - 0.2, -0.15, count))
    turn = _GOLDEN * np.arange(count) + draw.uniform(0, 2 * np.pi)
    ring = np.sqrt(1 - height**2)
    positions = 3.2 * np.stack([ring * np.cos(turn), ring * np.sin(turn), height], 1)
    up = np.array([0.0, 0.0, 1.0])
    return 0.6911, [look_at(p, np.zeros(3), up) for p in positions]


def _forward(count: int, draw: np.random.Generator) -> tuple[float, list[np.ndarray]]:
    """A sunflower disc half a unit wide, every camera aimed near the middle of the scene."""
    radius = 0.5 * np.sqrt((np.arange(count) + 0.5) / count)
    # In random order: every eighth camera must not lie on one side.
    order = draw.permutation(count)
    turn = _GOLDEN * np.arange(count)
    positions = np.stack([radius * np.cos(turn), radius * np.sin(turn), 0.1 * draw.uniform(-1, 1, count)], 1)[order]
    targets = np.array([0, 0, -4]) + 0.1 * draw.standard_normal((count, 3))
    return 0.85, [look_at(p, t, np.array([0.0, 1.0, 0.0])) for p, t in zip(positions, targets, strict=True)]


def _unbounded(count: int, draw: np.random.Generator) -> tuple[float, list[np.ndarray]]:
    """Two and a bit rounds about the object at changing heights."""
    turn = _GOLDEN * np.arange(count) + draw.uniform(0, 2 * np.pi)
    distance, height = draw.uniform(1.9, 2.2, count), draw.uniform(0.3, 1.1, count)
    positions = np.stack([distance * np.cos(turn), distance * np.sin(turn), height], 1)
    return 1.1, [look_at(p, np.array([0, 0, -0.1]), np.array([0.0, 0.0, 1.0])) for p in positions]


_POSES = {"inward": _inward, "forward": _forward, "unbounded": _unbounded}


# --------------------------------------------------------------------------------------------------------- layouts


def _picture_names(data: SceneSet) -> list[str]:
    if data.kind != "inward":
        return [f"images/view_{i:04d}.png" for i in range(len(data.cameras))]
    counts = {"train": 0, "val": 0, "test": 0}
    names = []
    for split in data.splits:
        names.append(f"{split}/r_{counts[split]}.png")
        counts[split] += 1
    return names


def _write_blender(data: SceneSet, root: Path, names: Sequence[str]) -> None:
    i = data.cameras[0].intrinsics
    for split in ("train", "test"):
        frames = [
            {"file_path": f"./{name.removesuffix('.png')}", "transform_matrix": camera.pose.tolist()}
            for camera, name, s in zip(data.cameras, names, data.splits, strict=True)
            if s == split
        ]
        table = {"camera_angle_x": 2 * math.atan(i.width / 2 / i.fx), "frames": frames}
        atomic_write(root / f"transforms_{split}.json", json.dumps(table, indent=1).encode())


def _write_llff(data: SceneSet, root: Path, names: Sequence[str]) -> None:
    del names  # rows and pictures are matched by order
    rows = []
    for camera in data.cameras:
        i, (right, up, back, position) = camera.intrinsics, camera.pose[:3].T
        matrix = np.stack([-up, right, back, position, np.array([i.height, i.width, i.fx])], 1)
        near, far = _depth_range(data.scene, camera)
        rows.append(np.concatenate([matrix.ravel(), [near, far]]))
    with atomic_path(root / "poses_bounds.npy") as temporary:
        np.save(temporary, np.array(rows))


def _depth_range(what: Scene, camera: Camera) -> tuple[float, float]:
    """Depth along the optical axis of the nearest and farthest content, as structure from motion would find them."""
    origins, directions = rays(camera, dtype=np.float64)
    _, opacity, distance = what.trace(origins[::4, ::4], directions[::4, ::4], 1 / 16)
    seen = opacity > 0.5
    depth = (distance / np.maximum(opacity, 1e-9) * (directions[::4, ::4] @ camera.forward))[seen]
    return 0.9 * float(depth.min()), 1.1 * float(depth.max())


def _write_nerfstudio(data: SceneSet, root: Path, names: Sequence[str]) -> None:
    i = data.cameras[0].intrinsics
    table = {
        "camera_model": "OPENCV", "w": i.width, "h": i.height,
        "fl_x": i.fx, "fl_y": i.fy, "cx": i.cx, "cy": i.cy, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
        "frames": [
            {"file_path": name, "transform_matrix": camera.pose.tolist()}
            for camera, name in zip(data.cameras, names, strict=True)
        ],
    }  # fmt: skip
    for split in ("train", "test"):
        table[f"{split}_filenames"] = [n for n, s in zip(names, data.splits, strict=True) if s == split]
    atomic_write(root / "transforms.json", json.dumps(table, indent=1).encode())


_LAYOUTS = {"inward": _write_blender, "forward": _write_llff, "unbounded": _write_nerfstudio}
