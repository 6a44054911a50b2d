"""Cameras and posed image sets: rays go through the right pixels, layouts are read as written, bad data is refused."""

from __future__ import annotations

import contextlib
import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurcomp_core.errors import FormatError, InputError, MissingExtraError, NeurCompError
from neurcomp_core.radiance import bounds, distortion, paths
from neurcomp_core.radiance.cameras import Camera, Intrinsics, ndc_rays, pixel_centers, project, rays
from neurcomp_core.radiance.dataset import BLACK, PosedImages
from neurcomp_core.radiance.distortion import Lens
from neurcomp_core.radiance.images import Images, area_resize, composite, read, write_png
from neurcomp_core.radiance.loaders import load
from neurcomp_core.radiance.loaders.colmap_model import read_model
from neurcomp_core.radiance.poses import from_opencv, look_at

UP = np.array([0.0, 0.0, 1.0])
LENSES = {
    "PINHOLE": Lens(),
    "SIMPLE_RADIAL": Lens(k1=-0.12),
    "RADIAL": Lens(k1=0.08, k2=-0.03),
    "OPENCV": Lens(k1=-0.2, k2=0.05, p1=0.003, p2=-0.002),
    "OPENCV_FISHEYE": Lens(fisheye=True, k1=0.05, k2=-0.01, k3=0.002, k4=-0.001),
}


def camera(lens: Lens | None = None, size: tuple[int, int] = (64, 48)) -> Camera:
    w, h = size
    intrinsics = Intrinsics(w, h, 50.0, 55.0, w / 2 + 1.5, h / 2 - 2, lens or Lens())
    return Camera(intrinsics, look_at(np.array([3.0, -2, 1.5]), np.array([0.2, 0.1, 0]), UP))


def ring(count: int, distance: float = 4.0, angle: float = 0.7, size: int = 16) -> list[Camera]:
    intrinsics = Intrinsics.from_angle(angle, size, size)
    return [Camera(intrinsics, pose) for pose in paths.circle(np.zeros(3), distance, count)]


# --------------------------------------------------------------------------------------------------------- cameras


@pytest.mark.parametrize("model", LENSES)
def test_a_ray_comes_back_to_its_pixel(model: str) -> None:
    seen = camera(LENSES[model])
    assert seen.intrinsics.model == model
    origins, directions = rays(seen, dtype=np.float64)
    assert origins.shape == directions.shape == (48, 64, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(project(seen, origins + 2.5 * directions), pixel_centers(64, 48), atol=1e-7)


def test_distortion_is_opencvs() -> None:
    lens = Lens(k1=-0.2, k2=0.05, k3=0.01, p1=0.003, p2=-0.002)
    x, y = 0.3, -0.4
    r2 = 0.25
    radial = 1 - 0.2 * r2 + 0.05 * r2**2 + 0.01 * r2**3
    expected = [x * radial + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x), y * radial + 0.003 * (r2 + 2 * y * y)]
    expected[1] += 2 * -0.002 * x * y
    np.testing.assert_allclose(distortion.project(lens, np.array([2 * x, 2 * y, 2])), expected)
    # An equidistant fisheye images an angle as a radius, also behind the image plane.
    half = np.array([math.sin(2.0), 0, math.cos(2.0)])
    np.testing.assert_allclose(distortion.project(Lens(fisheye=True), half), [2.0, 0])
    back, valid = distortion.unproject(Lens(fisheye=True), np.array([[0.0, 2.0], [0, 0], [0, 3.5]]))
    np.testing.assert_allclose(back[0], [0, math.sin(2.0), math.cos(2.0)], atol=1e-12)
    np.testing.assert_allclose(back[1], [0, 0, 1])
    assert valid.tolist() == [True, True, False]


def test_distortion_without_an_inverse_is_refused() -> None:
    # r (1 - 0.6 r^2) turns back at r = 0.745 with the value 0.497; the corner asks for more.
    with pytest.raises(InputError, match=r"distortion \(SIMPLE_RADIAL\) has no inverse at pixel"):
        rays(camera(Lens(k1=-0.6)))


def test_convention_of_axes() -> None:
    intrinsics = Intrinsics.from_angle(math.pi / 2, 4, 4)
    seen = Camera(intrinsics, look_at(np.array([0.0, -5, 0]), np.zeros(3), UP))
    _, directions = rays(seen, np.array([[2.0, 2.0], [4, 2], [2, 0]]), np.float64)
    np.testing.assert_allclose(directions[0], [0, 1, 0], atol=1e-12)  # forward
    np.testing.assert_allclose(directions[1], np.array([1, 1, 0]) / math.sqrt(2), atol=1e-12)  # u is right
    np.testing.assert_allclose(directions[2], np.array([0, 1, 1]) / math.sqrt(2), atol=1e-12)  # v = 0 is up
    np.testing.assert_allclose(from_opencv(from_opencv(seen.pose)), seen.pose)
    assert np.isnan(project(seen, np.array([0.0, -6, 0]))).all()


def test_a_pose_may_be_scaled_and_slightly_rounded() -> None:
    pose = camera().pose.copy()
    pose[:3, :3] *= 2.5
    np.testing.assert_allclose(Camera(camera().intrinsics, np.round(pose, 5)).pose, camera().pose, atol=1e-5)


def test_normalised_device_coordinates() -> None:
    intrinsics = Intrinsics.from_angle(0.9, 40, 30)
    seen = Camera(intrinsics, look_at(np.array([0.2, -0.1, 0.05]), np.array([0.3, 0, -4]), np.array([0.0, 1, 0])))
    o, d = rays(seen, dtype=np.float64)
    start, along = ndc_rays(o, d, intrinsics, near=1.5)
    np.testing.assert_allclose(start[..., 2], -1, atol=1e-12)
    np.testing.assert_allclose((start + along)[..., 2], 1, atol=1e-12)
    # Eq. 25: the perspective projection of any point of the ray lies on the warped one.
    p = o + 7.0 * d
    f, w, h = intrinsics.fx, 40, 30
    x, y, z = np.moveaxis(p, -1, 0)
    warped = np.stack([-2 * f / w * x / z, -2 * f / h * y / z, 1 + 2 * 1.5 / z], -1)
    t = ((warped - start)[..., 2] / along[..., 2])[..., None]
    np.testing.assert_allclose(start + t * along, warped, atol=1e-12)
    with pytest.raises(InputError, match="look towards -z"):
        ndc_rays(o, -d, intrinsics)


def test_paths() -> None:
    circle = paths.circle(np.array([1.0, 2, 3]), 2.0, 8, elevation=0.5)
    towards = np.array([1.0, 2, 3]) - circle[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(towards, axis=1), 2)
    np.testing.assert_allclose(-circle[:, :3, 2] * 2, towards, atol=1e-12)
    np.testing.assert_allclose(circle[:, 2, 3], 3 + 2 * math.sin(0.5))
    again = paths.interpolate(circle, 15)
    np.testing.assert_allclose(again[::2], circle, atol=1e-9)
    np.testing.assert_allclose(again[1::2, :3, :3].transpose(0, 2, 1) @ again[1::2, :3, :3], [np.eye(3)] * 7, atol=1e-9)
    closed = paths.interpolate(circle, 16, closed=True)
    np.testing.assert_allclose(closed[1::2], paths.circle(np.array([1.0, 2, 3]), 2, 16, elevation=0.5)[1::2], atol=0.06)
    around = paths.around([Camera(camera().intrinsics, p) for p in circle], 4)
    np.testing.assert_allclose(np.linalg.norm(around[:, :3, 3] - (1, 2, 3), axis=1), 2)
    flat = [
        Camera(camera().intrinsics, look_at(np.array([x, y, 0]), np.array([x, y, -1]), np.array([0.0, 1, 0])))
        for x in (-0.5, 0, 0.5)
        for y in (-0.2, 0, 0.2)
    ]
    spiral = paths.spiral(flat, 2.0, 20.0, 12)
    np.testing.assert_allclose(spiral[:, :3, 3].mean(0), 0, atol=0.1)
    assert (spiral[:, 2, 2] > 0.9).all()
    for bad in (lambda: paths.interpolate(circle[:1], 3), lambda: paths.circle(np.zeros(3), 1, 0)):
        with pytest.raises(InputError, match="a path needs"):
            bad()


def test_bounds_of_cameras_around_an_object() -> None:
    cameras = ring(12)
    np.testing.assert_allclose(bounds.focus_point(cameras), 0, atol=1e-9)
    near, far = bounds.inward_near_far(cameras)
    assert (near, far) == pytest.approx((2, 6))
    outer, inner = bounds.frustum_box(cameras, near, far), bounds.seen_box(cameras, near, far, share=1)
    # All cameras see the ball inscribed in their cones, and little more.
    reach = 4 * math.sin(0.35)
    assert (inner[1] > reach).all()
    assert (inner[0] < -reach).all()
    assert (np.abs(inner) < 1.6 * reach).all()
    assert (outer[0] < inner[0]).all()
    assert (outer[1] > inner[1]).all()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    found = bounds.point_bounds(cameras, points)
    assert found is not None
    assert 0.8 * 3.2 < found[0] < 3.5
    assert 4.4 < found[1] < 1.2 * 4.8
    np.testing.assert_allclose(found[2], [[-0.6] * 3, [0.6] * 3], atol=0.03)
    assert bounds.point_bounds(cameras, points + 100) is None
    parallel = [Camera(camera().intrinsics, look_at(np.array([x, 0.0, 0]), np.array([x, 1, 0]), UP)) for x in (-1, 1)]
    np.testing.assert_allclose(bounds.focus_point(parallel), 0, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------- images


def test_area_filter_keeps_means_and_commutes_with_compositing() -> None:
    draw = np.random.default_rng(1)
    image = draw.random((12, 20, 4)).astype(np.float32)
    np.testing.assert_allclose(
        area_resize(image[..., :3], 5, 4), image[..., :3].reshape(4, 3, 5, 4, 3).mean((1, 3)), atol=1e-6
    )
    uneven = area_resize(image[..., :3], 7, 5)
    np.testing.assert_allclose(uneven.mean((0, 1)), image[..., :3].mean((0, 1)), atol=1e-6)
    image[:6, :6, 3] = 0
    for size in ((5, 4), (7, 5)):
        small = composite(area_resize(image, *size), (0.2, 0.5, 1))
        np.testing.assert_allclose(small, area_resize(composite(image, (0.2, 0.5, 1)), *size), atol=1e-6)


def test_downscaling_leaves_rays_where_they_were(tmp_path: Path) -> None:
    data = load(blender_set(tmp_path, size=16))
    small = data.downscaled(4)
    assert small.colors(0).shape == (4, 4, 3)
    whole = data.rays(0, 4 * pixel_centers(4, 4))[1]
    np.testing.assert_allclose(small.rays(0)[1], whole, atol=1e-6)
    np.testing.assert_allclose(small.colors(0), data.colors(0).reshape(4, 4, 4, 4, 3).mean((1, 3)), atol=1e-5)
    for factor in (0.5, math.nan, math.inf):
        for refused in (lambda f: data.downscaled(f), lambda f: load(tmp_path, downscale=f)):
            with pytest.raises(InputError, match="factor of at least 1"):
                refused(factor)


def test_sets_in_memory() -> None:
    cameras = tuple(ring(3, size=8))
    arrays = [np.full((8, 8, 4), 128, np.uint8)] * 3
    box = np.array([[-1.0] * 3, [1.0] * 3])
    data = PosedImages(Images.of_arrays(arrays), cameras, ("train", "train", "test"), 2, 6, box)
    assert (len(data), len(data.split("train")), data.has_alpha) == (3, 2, True)
    a = 128 / 255
    np.testing.assert_allclose(data.colors(0), a * a + 1 - a, atol=1e-6)
    np.testing.assert_allclose(data.over(BLACK).colors(0), a * a, atol=1e-6)
    np.testing.assert_allclose(data.opacity(2), a, atol=1e-6)
    with pytest.raises(InputError, match="no val images, only test, train"):
        data.split("val")
    for change, words in (
        ({"splits": ("train",)}, "as many of each"),
        ({"near": 7.0}, "0 <= near < far"),
        ({"box": -box}, "a low and a higher corner"),
        ({"cameras": tuple(ring(3, size=9))}, "8 x 8 pixels, its camera 9 x 9"),
    ):
        with pytest.raises(InputError, match=words):
            replace(data, **change)
    with pytest.raises(InputError, match="image 1: expected"):
        Images.of_arrays([arrays[0], arrays[0][..., 0]])


# --------------------------------------------------------------------------------------------------------- Blender


def frames_of(cameras: list[Camera], name: str) -> list[dict]:
    return [{"file_path": name.format(i), "transform_matrix": c.pose.tolist()} for i, c in enumerate(cameras)]


def posed(matrix: object):
    """A change of a file: the second frame gets this pose."""
    pose = matrix.tolist() if isinstance(matrix, np.ndarray) else matrix
    return lambda table: table["frames"][1].update(transform_matrix=pose)


def blender_set(folder: Path, size: int = 16, channels: int = 4) -> Path:
    draw = np.random.default_rng(0)
    for split, cameras in (("train", ring(6, size=size)), ("test", ring(5, 4.2, size=size))):
        (folder / split).mkdir(exist_ok=True)
        for i in range(len(cameras)):
            image = draw.integers(0, 255, (size, size, channels), np.uint8, endpoint=True)
            write_png(folder / split / f"r_{i}.png", image)
        table = {"camera_angle_x": 0.7, "frames": frames_of(cameras, f"./{split}/r_{{}}")}
        (folder / f"transforms_{split}.json").write_text(json.dumps(table))
    return folder


def edit(path: Path, change) -> None:
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def test_blender_layout(tmp_path: Path) -> None:
    data = load(blender_set(tmp_path))
    assert data.splits == ("train",) * 6 + ("test",) * 5
    assert data.scene == "bounded"
    assert data.cameras[0].intrinsics.fx == pytest.approx(8 / math.tan(0.35))
    np.testing.assert_allclose(data.cameras[7].pose, ring(5, 4.2)[1].pose, atol=1e-12)
    raw = read(tmp_path / "test" / "r_1.png")
    np.testing.assert_array_equal(data.images[7], raw)
    black = load(tmp_path, background=BLACK)
    np.testing.assert_allclose(black.colors(7), raw[..., :3] / 255 * raw[..., 3:] / 255, atol=1e-6)
    behind = np.repeat(1 - raw[..., 3:] / 255, 3, axis=-1)
    np.testing.assert_allclose(data.colors(7) - black.colors(7), behind, atol=1e-6)
    assert (data.near, data.far) == pytest.approx((2, 6.3))
    assert len(load(tmp_path / "transforms_train.json")) == 11
    assert data.names[7] == "test/r_1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(frames=[]), "has no frames; a set needs at least one image"),
        (lambda t: t.pop("frames"), "has no list of 'frames'"),
        (lambda t: t.update(camera_angle_x=39.6), "frame './train/r_0': .* is 39.6, which looks like degrees"),
        (lambda t: t.update(camera_angle_x=-0.5), "is -0.5; expected radians above 0 and below pi"),
        (lambda t: t.update(camera_angle_x=float("nan")), "'camera_angle_x' is nan; expected a finite number"),
        (lambda t: t.update(camera_angle_x="wide"), "'camera_angle_x' is 'wide'; expected a finite number"),
        (lambda t: t.pop("camera_angle_x"), "no focal length: expected 'fl_x'"),
        (lambda t: t.update(w=20, h=20), "r_0': the image has 16 x 16 pixels, its camera 20 x 20"),
        (lambda t: t["frames"][2].pop("file_path"), "frame 2: 'file_path' is missing"),
        (lambda t: t["frames"][2].pop("transform_matrix"), "frame './train/r_2': 'transform_matrix' is missing"),
        (lambda t: t["frames"][2].update(file_path="./train/r_9"), r"r_9' does not exist .1 of 6 are missing.; copy"),
        (posed(np.zeros((4, 4))), "frame './train/r_1': the pose's last row must be 0 0 0 1, got 0 0 0 0"),
        (posed(np.zeros((3, 4))), "r_1': the pose is singular"),
        (posed(np.diag([1, 1, 1e-9, 1])), "r_1': the pose is singular .its axes lie in a plane."),
        (posed(np.full((4, 4), np.nan)), "r_1': the pose holds NaN or infinite numbers"),
        (posed([[1, 2], [3]]), "r_1': expected a pose of 4x4 .* got rows of different lengths"),
        (posed([[10**400] * 4] * 3), "r_1': expected a pose of 4x4"),
        (posed(1e300 * np.ones((3, 4))), "r_1': the pose is singular"),
        (lambda t: t.update(camera_angle_x=10**400), "'camera_angle_x' is 1000"),
        (posed(np.eye(2)), "r_1': expected a pose of 4x4 .* got 2 x 2"),
        (posed(np.diag([1, 1, -1, 1])), "r_1': the pose mirrors"),
        (posed(np.diag([1, 2, 1, 1])), "axes are not orthogonal"),
    ],
)
def test_bad_frames_are_one_clear_sentence(tmp_path: Path, change, words: str) -> None:
    edit(blender_set(tmp_path) / "transforms_train.json", change)
    with pytest.raises(InputError, match=words) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_files_are_one_clear_sentence(tmp_path: Path) -> None:
    blender_set(tmp_path)
    picture = tmp_path / "train" / "r_3.png"
    whole = picture.read_bytes()
    write_png(picture, np.zeros((16, 20, 4), np.uint8))
    with pytest.raises(InputError, match=r"r_3': the image has 20 x 16 pixels, '[^']*r_0' 16 x 16; give each frame"):
        load(tmp_path)
    edit(tmp_path / "transforms_train.json", lambda t: t.update(w=16, h=16))
    with pytest.raises(InputError, match="r_3': the image has 20 x 16 pixels, its camera 16 x 16"):
        load(tmp_path)
    picture.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot read the image '.*r_3.png'"):
        load(tmp_path)
    picture.write_bytes(whole[: len(whole) // 2])
    data = load(tmp_path)  # its header is whole
    with pytest.raises(InputError, match=r"cannot read the image '.*r_3.png'"):
        data.colors(3)
    (tmp_path / "transforms_train.json").write_text("{ no json")
    with pytest.raises(InputError, match=r"cannot read '.*transforms_train.json'"):
        load(tmp_path)
    with pytest.raises(InputError, match="does not exist; give the folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is no set of posed images: expected transforms_train.json"):
        load(tmp_path / "train")


# ------------------------------------------------------------------------------------------------------ nerfstudio


def nerfstudio_set(folder: Path, count: int = 10, size: tuple[int, int] = (16, 12), **table) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for i in range(count):
        write_png(folder / "images" / f"f_{i:03d}.png", np.full((size[1], size[0], 3), 20 * i, np.uint8))
    cameras = [Camera(Intrinsics.from_angle(1.0, *size), pose) for pose in paths.circle(np.zeros(3), 2.0, count)]
    base = {"fl_x": 15.0, "fl_y": 14.0, "cx": 8.5, "cy": 5.5, "w": size[0], "h": size[1]}
    frames = frames_of(cameras, "images/f_{:03d}.png")
    (folder / "transforms.json").write_text(json.dumps({**base, **table, "frames": frames[::-1]}))
    return folder


def test_nerfstudio_layout(tmp_path: Path) -> None:
    nerfstudio_set(tmp_path, camera_model="OPENCV", k1=-0.05, p1=0.001)
    edit(tmp_path / "transforms.json", lambda t: t["frames"][0].update(fl_x=18.0, k1=0.02))
    data = load(tmp_path)
    assert [i for i, s in enumerate(data.splits) if s == "test"] == [0, 8]  # by name, whatever the order in the file
    assert data.images[3].max() == 60
    assert data.cameras[3].intrinsics == Intrinsics(16, 12, 15, 14, 8.5, 5.5, Lens(k1=-0.05, p1=0.001))
    assert (data.cameras[9].intrinsics.fx, data.cameras[9].intrinsics.lens.k1) == (18.0, 0.02)
    assert data.scene == "unbounded"
    np.testing.assert_allclose(data.box, [[-2] * 3, [2] * 3], atol=1e-9)
    assert 0 < data.near < 0.5 < 100 < data.far
    assert set(load(tmp_path, holdout=0).splits) == {"train"}
    assert load(tmp_path, holdout=3).splits.count("test") == 4


def test_missing_images_may_be_skipped(tmp_path: Path) -> None:
    nerfstudio_set(tmp_path)
    for i in (0, 5):
        (tmp_path / "images" / f"f_{i:03d}.png").unlink()
    with pytest.raises(InputError, match=r"f_000.png' does not exist .2 of 10 are missing.; .* .skip_missing."):
        load(tmp_path)
    data = load(tmp_path, skip_missing=True)
    assert [int(n[-7:-4]) for n in data.names] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert data.images[4].max() == 120
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"f_000.png' does not exist .none is there.; copy the images there"):
        load(tmp_path, skip_missing=True)
    colmap_set(tmp_path / "c", "bin")
    (tmp_path / "c" / "images" / "shot 2.png").unlink()
    assert load(tmp_path / "c", skip_missing=True).names == tuple(f"shot {i}.png" for i in (0, 1, 3, 4))


def test_nerfstudio_splits_fisheye_and_box(tmp_path: Path) -> None:
    names = [f"images/f_{i:03d}.png" for i in range(10)]
    nerfstudio_set(
        tmp_path, camera_model="OPENCV_FISHEYE", k4=1e-4, train_filenames=names[:7], val_filenames=names[7:8],
        test_filenames=names[8:], aabb_scale=2, scale=0.5, offset=[0.5, 0.5, 0.25],
    )  # fmt: skip
    data = load(tmp_path / "transforms.json")
    assert data.splits == ("train",) * 7 + ("val",) + ("test",) * 2
    assert data.cameras[0].intrinsics.lens == Lens(fisheye=True, k4=1e-4)
    np.testing.assert_allclose(data.box, [[-2, -2, -1.5], [2, 2, 2.5]])
    edit(tmp_path / "transforms.json", lambda t: t["test_filenames"].pop())
    with pytest.raises(InputError, match=r"'images/f_009.png' is in none of train_filenames"):
        load(tmp_path)
    edit(tmp_path / "transforms.json", lambda t: t.update(aabb_scale=0))
    edit(tmp_path / "transforms.json", lambda t: [t.pop(f"{s}_filenames") for s in ("train", "val", "test")])
    with pytest.raises(InputError, match="aabb_scale and scale must be positive"):
        load(tmp_path)
    edit(tmp_path / "transforms.json", lambda t: t.update(aabb_scale=1, camera_model="EQUIRECTANGULAR"))
    with pytest.raises(InputError, match="camera model EQUIRECTANGULAR is not supported, only PINHOLE"):
        load(tmp_path)
    edit(tmp_path / "transforms.json", lambda t: t.update(camera_model="OPENCV", fl_x=0))
    with pytest.raises(InputError, match="fx: expected a positive focal length in pixels, got 0"):
        load(tmp_path)


# ------------------------------------------------------------------------------------------------------------ LLFF


def llff_cameras() -> list[Camera]:
    intrinsics = Intrinsics.from_angle(0.8, 40, 32)
    tilt = look_at(np.array([5.0, 1, 2]), np.array([4.0, 3, 2.5]), UP)
    out = []
    for i in range(9):
        local = look_at(
            np.array([0.3 * (i % 3), 0.2 * (i // 3), 0.02 * i]), np.array([0.3, 0.2, -5]), np.array([0, 1, 0])
        )
        out.append(Camera(intrinsics, tilt @ local))
    return out


def llff_set(folder: Path) -> Path:
    rows = []
    (folder / "images").mkdir()
    (folder / "images_2").mkdir()
    for i, c in enumerate(llff_cameras()):
        image = np.random.default_rng(i).integers(0, 256, (32, 40, 3), np.uint8)
        write_png(folder / "images" / f"IMG_{i}.png", image)
        write_png(folder / "images_2" / f"image{i:03d}.png", area_resize(image, 20, 16))
        right, up, back, position = c.pose[:3].T
        matrix = np.stack([-up, right, back, position, [32, 40, c.intrinsics.fx]], 1)
        rows.append([*matrix.ravel(), 3.0 + 0.1 * i, 20.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


def test_llff_layout(tmp_path: Path) -> None:
    data = load(llff_set(tmp_path))
    originals = llff_cameras()
    assert data.scene == "forward-facing"
    assert [i for i, s in enumerate(data.splits) if s == "test"] == [0, 8]
    # The world was moved and scaled, so what a camera sees stays where it was in the image.
    scale = 1 / (0.75 * 3.0)
    assert (data.near, data.far) == pytest.approx((3 * scale, 20 * scale))
    point = originals[4].pose @ [0.3, -0.4, -6, 1]
    moved = data.cameras[4].pose @ [0.3 * scale, -0.4 * scale, -6 * scale, 1]
    for before, after in zip(originals, data.cameras, strict=True):
        np.testing.assert_allclose(project(after, moved[:3]), project(before, point[:3]), atol=1e-9)
    np.testing.assert_allclose(paths.mean_pose(data.cameras), np.eye(4), atol=1e-9)
    origins, directions, near, far = data.rays(4, dtype=np.float64)
    assert (near, far) == (0.0, 1.0)
    ends = np.stack([origins, origins + directions])
    assert (ends >= data.box[0] - 1e-9).all()
    assert (ends <= data.box[1] + 1e-9).all()
    np.testing.assert_allclose(data.box[:, 2], [-1, 1])
    np.testing.assert_allclose(np.linalg.norm(data.viewing_directions(4), axis=-1), 1, atol=1e-6)


def test_cameras_of_two_kinds_have_no_common_device_coordinates(tmp_path: Path) -> None:
    rows = np.load(llff_set(tmp_path) / "poses_bounds.npy")
    rows[3, 14] *= 1.1  # the focal length
    np.save(tmp_path / "poses_bounds.npy", rows)
    data = load(tmp_path)
    assert data.scene == "unbounded"
    np.testing.assert_allclose(data.cameras[3].pose, llff_cameras()[3].pose, atol=1e-9)


def test_llff_downscaled_folders(tmp_path: Path) -> None:
    llff_set(tmp_path)
    half, quarter = load(tmp_path, downscale=2), load(tmp_path, downscale=4)
    assert half.images.sources[0] == tmp_path / "images_2" / "image000.png"
    assert quarter.images.sources[0] == tmp_path / "images" / "IMG_0.png"
    assert half.cameras[0].intrinsics == Intrinsics.from_angle(0.8, 40, 32).resized(20, 16)
    assert quarter.images[0].shape == (8, 10, 3)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    (tmp_path / "images").rmdir()
    with pytest.raises(InputError, match="no folder 'images'; there is images_2, so load it with such a downscale"):
        load(tmp_path)


def test_bad_llff(tmp_path: Path) -> None:
    llff_set(tmp_path)
    table = tmp_path / "poses_bounds.npy"
    rows = np.load(table)

    def refused(changed: np.ndarray, words: str) -> None:
        np.save(table, changed)
        with pytest.raises(InputError, match=words):
            load(tmp_path)

    refused(rows[:, :15], r"expected a table of \(images, 17\) numbers, got \(9, 15\)")
    refused(rows[:0], "has no frames")
    refused(rows[:8], "has 9 images, poses_bounds.npy 8 poses")
    refused(np.where(np.arange(17) == 15, -1, rows), "'IMG_0.png': expected bounds 0 < near < far, got -1 and 20")
    refused(np.where(np.arange(17) == 3, np.nan, rows), "'IMG_0.png': the pose holds NaN")
    refused(np.where(np.arange(17) < 15, 0, rows), "'IMG_0.png': poses_bounds.npy has an image size of 0 x 0")
    refused(np.where(np.arange(17) == 9, 400, rows), "'IMG_0.png': the image has 40 x 32 pixels, poses_bounds.npy was")
    refused(np.array([{}], object), "cannot read")
    table.write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path)


# ---------------------------------------------------------------------------------------------------------- COLMAP

MODELS = {
    "SIMPLE_PINHOLE": (0, (30, 20, 16), Lens()),
    "PINHOLE": (1, (30, 31, 20, 16), Lens()),
    "SIMPLE_RADIAL": (2, (30, 20, 16, -0.1), Lens(k1=-0.1)),
    "RADIAL": (3, (30, 20, 16, -0.1, 0.02), Lens(k1=-0.1, k2=0.02)),
    "OPENCV": (4, (30, 31, 20, 16, -0.1, 0.02, 0.003, 0.004), Lens(k1=-0.1, k2=0.02, p1=0.003, p2=0.004)),
    "OPENCV_FISHEYE": (5, (30, 31, 20, 16, 0.1, 0.02, 0.003, 0.004), Lens(True, 0.1, 0.02, 0.003, 0.004)),
    "FULL_OPENCV": (6, (30, 31, 20, 16, 0.1, 0.2, 0.03, 0.04, 0.5, 0, 0, 0), Lens(False, 0.1, 0.2, 0.5, 0, 0.03, 0.04)),
    "SIMPLE_RADIAL_FISHEYE": (8, (30, 20, 16, 0.1), Lens(True, 0.1)),
    "RADIAL_FISHEYE": (9, (30, 20, 16, 0.1, 0.02), Lens(True, 0.1, 0.02)),
}  # fmt: skip


def quaternion(rotation: np.ndarray) -> list[float]:
    w = math.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    r = rotation
    return [w, (r[2, 1] - r[1, 2]) / (4 * w), (r[0, 2] - r[2, 0]) / (4 * w), (r[1, 0] - r[0, 1]) / (4 * w)]


def colmap_poses() -> list[np.ndarray]:
    """Camera-to-world in our convention; none needs a half turn, where the test's quaternion would divide by zero."""
    return [look_at(np.array([2 * math.cos(a), 2 * math.sin(a), 0.7]), np.zeros(3), UP) for a in np.arange(5) + 0.3]


def colmap_set(folder: Path, kind: str, model: str = "OPENCV", points: int = 50) -> Path:
    (folder / "images").mkdir(exist_ok=True, parents=True)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True, exist_ok=True)
    number, parameters, _ = MODELS[model]
    cloud = np.random.default_rng(3).uniform(-0.4, 0.4, (points, 3))
    names, extrinsics = [], []
    for i, pose in enumerate(colmap_poses()):
        names.append(f"shot {i}.png")
        write_png(folder / "images" / names[-1], np.full((32, 40, 3), 50 * i, np.uint8))
        world_to_camera = np.linalg.inv(from_opencv(pose))
        extrinsics.append([*quaternion(world_to_camera[:3, :3]), *world_to_camera[:3, 3]])
    if kind == "txt":
        lines = ["# Camera list", f"7 {model} 40 32 " + " ".join(map(str, parameters))]
        (sparse / "cameras.txt").write_text("\n".join(lines) + "\n")
        lines = ["# Image list"]
        for i, (name, numbers) in enumerate(zip(names, extrinsics, strict=True)):
            lines += [
                f"{i + 1} " + " ".join(map(repr, map(float, numbers))) + f" 7 {name}",
                "" if i % 2 else "1.5 2.5 -1",
            ]
        (sparse / "images.txt").write_text("\n".join(lines) + "\n")
        lines = [f"{i} {x} {y} {z} 1 2 3 0.5 1 0 2 0" for i, (x, y, z) in enumerate(cloud)]
        (sparse / "points3D.txt").write_text("\n".join(lines) + "\n")
        return folder
    data = struct.pack("<QiiQQ", 1, 7, number, 40, 32) + struct.pack(f"<{len(parameters)}d", *parameters)
    (sparse / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(names))
    for i, (name, numbers) in enumerate(zip(names, extrinsics, strict=True)):
        data += struct.pack("<i7di", i + 1, *numbers, 7) + name.encode() + b"\0"
        data += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
    (sparse / "images.bin").write_bytes(data)
    data = struct.pack("<Q", points)
    for i, p in enumerate(cloud):
        data += struct.pack("<Q3d3BdQ", i, *p, 1, 2, 3, 0.5, 2) + struct.pack("<iiii", 1, 0, 2, 0)
    (sparse / "points3D.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", ["bin", "txt"])
@pytest.mark.parametrize("model", MODELS)
def test_colmap_layout(tmp_path: Path, kind: str, model: str) -> None:
    data = load(colmap_set(tmp_path, kind, model), holdout=4)
    parameters, lens = MODELS[model][1:]
    intrinsics = data.cameras[0].intrinsics
    assert intrinsics.lens == lens
    assert (intrinsics.fx, intrinsics.cx, intrinsics.cy) == (30, 20, 16)
    assert intrinsics.fy == (31 if parameters[1] == 31 else 30)
    for i, pose in enumerate(colmap_poses()):
        np.testing.assert_allclose(data.cameras[i].pose, pose, atol=1e-9)
        assert data.images[i].max() == 50 * i
    assert data.splits == ("test", "train", "train", "train", "test")
    assert data.scene == "unbounded"
    np.testing.assert_allclose(data.box, [[-0.45] * 3, [0.45] * 3], atol=0.08)
    assert 0.9 < data.near < 2.2 < data.far < 3.2
    assert len(load(tmp_path / "sparse" / "0")) == 5


def test_colmap_without_points_and_downscaled(tmp_path: Path) -> None:
    colmap_set(tmp_path, "bin")
    (tmp_path / "sparse" / "0" / "points3D.bin").unlink()
    data = load(tmp_path, downscale=2)
    reach = math.hypot(2, 0.7)
    np.testing.assert_allclose(data.box, [[-reach] * 3, [reach] * 3], atol=1e-6)
    assert data.images.sizes[0] == (20, 16)
    assert data.cameras[0].intrinsics.fx == 15


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_colmap_truncated_or_lying(tmp_path: Path, name: str) -> None:
    model = colmap_set(tmp_path, "bin", points=12) / "sparse" / "0"
    file = model / f"{name}.bin"
    whole = file.read_bytes()
    for cut in range(0, len(whole), 7):
        file.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"truncated|without an end"):
            read_model(model)
    file.write_bytes(struct.pack("<Q", 2**60) + whole[8:])  # a count that no file holds is refused before allocation
    with pytest.raises(FormatError, match="truncated"):
        read_model(model)


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_colmap_with_flipped_bits_fails_clearly_or_reads(tmp_path: Path, kind: str) -> None:
    model = colmap_set(tmp_path, kind, points=4) / "sparse" / "0"
    draw = np.random.default_rng(0)
    for name in ("cameras", "images", "points3D"):
        file = model / f"{name}.{kind}"
        whole = file.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[draw.integers(len(whole))] ^= 1 << draw.integers(8)
            file.write_bytes(damaged)
            with contextlib.suppress(NeurCompError):
                read_model(model)
        file.write_bytes(whole)


def test_what_loads_on_import(tmp_path: Path) -> None:
    modules = "loaders, imports, scenes, scene_sets, paths, dataset, grids"
    code = f"import sys; from neurcomp_core.radiance import {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {"torch", "numba", "PIL", "vtkmodules"} & set(done.stdout.split())


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blender_set(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pictures needs the Python package 'PIL' .*'neurcomp\[radiance\]'"):
        load(tmp_path)


def test_bad_colmap(tmp_path: Path) -> None:
    model = colmap_set(tmp_path, "txt") / "sparse" / "0"

    def refused(name: str, old: str, new: str, error: type[Exception], words: str) -> None:
        text = (model / name).read_text()
        assert old in text
        (model / name).write_text(text.replace(old, new, 1))
        with pytest.raises(error, match=words):
            load(tmp_path)
        (model / name).write_text(text)

    line = next(s for s in (model / "images.txt").read_text().splitlines() if s.endswith("shot 1.png"))
    refused("cameras.txt", "OPENCV", "FOV", InputError, "camera 7: camera model FOV is not supported")
    refused("cameras.txt", " 0.004", "", FormatError, "OPENCV has 8 parameters, got 7")
    refused("cameras.txt", " 30 ", " -30 ", InputError, "camera 7: fx: expected a positive focal length")
    refused("cameras.txt", "7 OPENCV", "8 OPENCV", InputError, "'shot 0.png': its camera 7 is not in")
    refused("images.txt", line, line.replace(line.split()[5], "nan"), InputError, "'shot 1.png': the pose holds NaN")
    refused("images.txt", line, "2 0 0 0 0 1 2 3 7 shot 1.png", InputError, "'shot 1.png': the pose is singular")
    refused("images.txt", "shot 1.png", "lost.png", InputError, "lost.png' does not exist .1 of 5 are")
    refused(
        "cameras.txt", " 40 32 ", " 80 64 ", InputError, "'shot 0.png': the image has 40 x 32 pixels, its camera 80"
    )
    refused("images.txt", line, "nonsense", FormatError, "expected 'ID QW QX QY QZ")
    refused("points3D.txt", "0 ", "0 x ", FormatError, "expected lines 'ID X Y Z")
    (model / "images.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match="has no registered images"):
        load(tmp_path)
    (model / "images.txt").unlink()
    with pytest.raises(InputError, match=r"images.txt' does not exist"):
        load(tmp_path)
    colmap_set(tmp_path, "bin", "FULL_OPENCV")
    binary = (model / "cameras.bin").read_bytes()
    (model / "cameras.bin").write_bytes(binary[:-8] + struct.pack("<d", 0.1))
    with pytest.raises(InputError, match="FULL_OPENCV with a rational radius is not supported"):
        load(tmp_path)
    (model / "cameras.bin").write_bytes(binary[:12] + struct.pack("<i", 10) + binary[16:])
    with pytest.raises(InputError, match="camera model THIN_PRISM_FISHEYE is not supported"):
        load(tmp_path)
