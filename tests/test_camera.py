"""Conventions of the camera: axes, pixels, units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bodyfit.errors import BodyfitError, OptionError, ShapeError
from bodyfit.geometry.camera import (
    CalibratedCamera,
    Camera,
    default_focal_px,
    flip_yz,
    focal_px_from,
    to_pytorch3d_axes,
)

F64 = torch.float64
SIZE = (640, 480)


def points(*rows) -> torch.Tensor:
    return torch.tensor([rows], dtype=F64)


def camera(**kwargs) -> Camera:
    return Camera.make(1, SIZE, dtype=F64, **kwargs)


def test_the_axis_meets_the_picture_at_the_principal_point():
    ahead = points([0, 0, 1.0], [0, 0, 50.0])
    torch.testing.assert_close(camera().project(ahead), points([320.0, 240.0], [320.0, 240.0]))
    shifted = camera(principal_point_px=(10.0, 20.0))
    torch.testing.assert_close(shifted.project(ahead), points([10.0, 20.0], [10.0, 20.0]))


def test_right_is_right_and_down_is_down():
    xy = camera(focal_px=500.0).project(points([1.0, 0, 5], [0, 1.0, 5], [0, 0, 5]))[0]
    torch.testing.assert_close(xy, torch.tensor([[420.0, 240.0], [320.0, 340.0], [320.0, 240.0]], dtype=F64))


def test_a_metre_at_a_distance_has_focal_over_distance_pixels():
    for distance in (1.0, 2.0, 8.0):
        a, b = camera(focal_px=800.0).project(points([0, 0.5, distance], [0, -0.5, distance]))[0]
        assert float((a - b).norm()) == pytest.approx(800 / distance)


def test_projection_depends_on_the_ray_alone():
    p = torch.randn(1, 20, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) + points([0, 0, 5.0])
    torch.testing.assert_close(camera().project(p), camera().project(2.5 * p))


def test_a_picture_twice_as_large_has_coordinates_twice_as_large():
    """Pixel centres lie at +0.5, so that no half pixel is lost: x -> 2 x exactly."""
    p = points([0.3, -0.2, 4.0], [-1.0, 0.4, 6.0])
    small = Camera.make(1, SIZE, focal_px=500.0, dtype=F64)
    large = Camera.make(1, (1280, 960), focal_px=1000.0, dtype=F64)
    torch.testing.assert_close(large.project(p), 2 * small.project(p))


def test_points_behind_the_camera_stay_finite():
    p = points([1.0, 1.0, 0.0], [1.0, 1.0, -3.0], [1.0, 1.0, 0.01]).requires_grad_()
    xy = camera().project(p)
    assert torch.isfinite(xy).all()
    assert xy[0, 0, 0] > 320
    torch.testing.assert_close(xy[0, 0], xy[0, 2])
    (slope,) = torch.autograd.grad(xy.sum(), p)
    assert torch.isfinite(slope).all()


def test_each_person_has_their_own_camera():
    focal = torch.tensor([400.0, 800.0], dtype=F64)
    centre = torch.tensor([[320.0, 240.0], [100.0, 50.0]], dtype=F64)
    both = Camera.make(2, SIZE, focal_px=focal, principal_point_px=centre, dtype=F64)
    p = points([0.5, 0.2, 3.0]).expand(2, 1, 3)
    for i in range(2):
        one = Camera.make(1, SIZE, focal_px=float(focal[i]), principal_point_px=tuple(centre[i].tolist()), dtype=F64)
        torch.testing.assert_close(both.project(p)[i : i + 1], one.project(p[:1]))
        torch.testing.assert_close(both.select([i]).project(p[:1]), one.project(p[:1]))
    assert both.select(slice(0, 0)).focal_px.shape == (0,)
    assert both.select([1]).image_size == SIZE


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_what_is_left_out_is_guessed(batch):
    made = Camera.make(batch, SIZE)
    assert made.focal_px.tolist() == [800.0] * batch, "the diagonal of 640 x 480"
    assert made.principal_point_px.tolist() == [[320.0, 240.0]] * batch
    assert made.focal_px.dtype == torch.float32
    assert made.project(torch.ones(batch, 4, 3)).shape == (batch, 4, 2)


def test_cameras_of_groups_are_the_camera_of_all():
    one = Camera.make(2, (640, 480), focal_px=torch.tensor([500.0, 600.0]))
    other = Camera.make(1, (640, 480), focal_px=700.0, principal_point_px=(300.0, 250.0))
    both = Camera.cat([one, other])
    assert both.focal_px.tolist() == [500.0, 600.0, 700.0]
    assert both.principal_point_px.tolist() == [[320.0, 240.0], [320.0, 240.0], [300.0, 250.0]]
    assert both.image_size == (640, 480)
    points = torch.rand(3, 5, 3) + torch.tensor([0.0, 0.0, 2.0])
    assert torch.equal(both.project(points), torch.cat([one.project(points[:2]), other.project(points[2:])]))
    wide = Camera.make(1, (800, 480))
    with pytest.raises(OptionError, match="2 sizes"):
        Camera.cat([one, wide])
    assert Camera.cat([one, wide], (800, 480)).image_size == (800, 480)


def test_the_guessed_field_of_view_is_53_degrees_over_the_diagonal():
    for size in ((640, 480), (480, 640), (4000, 3000)):
        diagonal = math.hypot(*size)
        assert math.degrees(2 * math.atan(diagonal / 2 / default_focal_px(size))) == pytest.approx(53.13, abs=0.01)


# Focal lengths in every unit.


def test_focal_lengths_in_every_unit_agree():
    """A 50 mm lens on a 36 x 24 mm sensor sees 39.6 degrees along the longer side."""
    size = (6000, 4000)
    px, source = focal_px_from(size, focal_mm=50.0, sensor_mm=36.0)
    assert source == "given"
    assert px == pytest.approx(50 / 36 * 6000)
    fov = math.degrees(2 * math.atan(36 / 2 / 50))
    assert focal_px_from(size, fov_deg=fov)[0] == pytest.approx(px)
    assert focal_px_from(size, focal_px=px) == (px, "given")


def test_the_longer_side_counts_in_upright_pictures_too():
    for kwargs in ({"focal_mm": 24.0, "sensor_mm": 36.0}, {"fov_deg": 70.0}):
        assert focal_px_from((3000, 4000), **kwargs) == focal_px_from((4000, 3000), **kwargs)


def test_what_the_user_gives_goes_before_exif_and_exif_before_a_guess():
    assert focal_px_from(SIZE, focal_px=700.0, exif_focal_px=900.0) == (700.0, "given")
    assert focal_px_from(SIZE, exif_focal_px=900.0) == (900.0, "exif")
    assert focal_px_from(SIZE) == (800.0, "guess")
    for untrue in (5.0, 1e6, math.nan, math.inf, -100.0, 0.0):
        assert focal_px_from(SIZE, exif_focal_px=untrue) == (800.0, "guess")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"focal_px": 35.0}, "too short.*millimetres.*focal_mm with sensor_mm"),
        ({"focal_px": 1e6}, "too long.*focal_mm"),
        ({"focal_px": 0.0}, "positive number of pixels"),
        ({"focal_px": -500.0}, "positive number of pixels"),
        ({"focal_px": math.nan}, "positive number of pixels"),
        ({"focal_px": math.inf}, "positive number of pixels"),
        ({"focal_px": 700.0, "fov_deg": 60.0}, "once, not as focal_px and fov"),
        ({"focal_px": 700.0, "focal_mm": 35.0, "sensor_mm": 36.0}, "once, not as focal_px and focal_mm"),
        ({"focal_mm": 35.0}, "needs sensor_mm"),
        ({"sensor_mm": 36.0}, "goes with focal_mm"),
        ({"sensor_mm": 36.0, "fov_deg": 60.0}, "goes with focal_mm"),
        ({"focal_mm": 35.0, "sensor_mm": 0.0}, "sensor_mm must be"),
        ({"focal_mm": 35.0, "sensor_mm": 3600.0}, "sensor_mm must be"),
        ({"focal_mm": 35.0, "sensor_mm": math.nan}, "sensor_mm must be"),
        ({"focal_mm": 0.0, "sensor_mm": 36.0}, "positive number of pixels"),
        ({"focal_mm": 0.035, "sensor_mm": 36.0}, "too short"),
        ({"fov_deg": 0.0}, "between 1.2 and 135"),
        ({"fov_deg": 180.0}, "between 1.2 and 135"),
        ({"fov_deg": 1.0}, "between 1.2 and 135"),
        ({"fov_deg": math.nan}, "between 1.2 and 135"),
    ],
)
def test_values_in_another_unit_are_refused_with_advice(kwargs, message):
    with pytest.raises(OptionError, match=message):
        focal_px_from((1000, 800), **kwargs)


@pytest.mark.parametrize("focal", [35.0, 1e6, 0.0, -1.0, math.nan])
@pytest.mark.parametrize("per_person", [False, True])
def test_a_camera_refuses_such_values_too(focal, per_person):
    value = torch.tensor([1000.0, focal]) if per_person else focal
    with pytest.raises(OptionError, match="focal length"):
        Camera.make(2, (1000, 1000), focal_px=value)


@pytest.mark.parametrize("size", [(0, 480), (640, -1), (0, 0)])
def test_a_picture_has_a_size(size):
    with pytest.raises(OptionError, match=r"image_size must be \(width, height\)"):
        Camera.make(1, size)


def test_wrong_batches_are_named():
    with pytest.raises(ShapeError, match=r"focal_px must be \(2\), got \(3,\); give one number, or one a person"):
        Camera.make(2, SIZE, focal_px=torch.full((3,), 500.0))
    with pytest.raises(ShapeError, match=r"principal_point_px must be \(2, 2\), got \(3, 2\)"):
        Camera.make(2, SIZE, principal_point_px=torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="principal_point_px"):
        Camera.make(2, SIZE, principal_point_px=torch.tensor(320.0))
    with pytest.raises(ShapeError, match="principal_point_px"):
        Camera.make(2, SIZE, principal_point_px=torch.zeros(3))
    with pytest.raises(OptionError, match="principal_point_px must be finite"):
        Camera.make(1, SIZE, principal_point_px=(math.nan, 0.0))


# Flips.


def test_the_flip_is_half_a_turn_about_x():
    p = torch.randn(4, 5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    R = torch.from_numpy(Rotation.from_euler("x", 180, degrees=True).as_matrix())
    torch.testing.assert_close(flip_yz(p), p @ R.T, atol=1e-15, rtol=0)
    assert torch.equal(flip_yz(flip_yz(p)), p)


def test_pytorch3d_axes_are_a_turn_and_not_a_mirror():
    """+x left, +y up, +z forward: half a turn about z."""
    p = torch.eye(3, dtype=F64)
    turned = to_pytorch3d_axes(p)
    assert torch.linalg.det(turned) == pytest.approx(1)
    assert turned.diagonal().tolist() == [-1, -1, 1]
    assert torch.equal(to_pytorch3d_axes(turned), p)


def test_a_pytorch3d_camera_sees_points_at_the_same_pixels():
    cameras = pytest.importorskip("pytorch3d.renderer.cameras")
    p = points([0.3, -0.2, 4.0], [-1.0, 0.4, 6.0], [0.0, 0.9, 2.0])
    ours = camera(focal_px=700.0, principal_point_px=(300.0, 250.0))
    theirs = cameras.PerspectiveCameras(
        focal_length=torch.tensor([[700.0, 700.0]]),
        principal_point=torch.tensor([[300.0, 250.0]]),
        in_ndc=False,
        image_size=torch.tensor([[480, 640]]),
    )
    seen = theirs.transform_points_screen(to_pytorch3d_axes(p).float())[..., :2]
    torch.testing.assert_close(seen.double(), ours.project(p), atol=1e-3, rtol=0)  # float32 of 1e3 px


def calibrated(**changes) -> CalibratedCamera:
    given = {
        "K": np.array([[900.0, 0, 640], [0, 910.0, 360], [0, 0, 1]]),
        "R": np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]),
        "t": np.array([0.1, -0.2, 4.0]),
        "distortion": np.array([-0.2, 0.05, 0.001, -0.002, 0.01]),
    }
    return CalibratedCamera(**(given | changes))


def test_undistortion_undoes_the_projection():
    camera = calibrated()
    points = np.random.default_rng(0).uniform(-1, 1, (2, 40, 3))
    straight = points @ camera.R.T + camera.t
    np.testing.assert_allclose(
        camera.normalised(camera.project(points)), straight[..., :2] / straight[..., 2:], atol=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"R": np.diag([1.0, 1, -1])}, "rotation"),
        ({"R": 2 * np.eye(3)}, "rotation"),
        ({"K": np.eye(3)}, "pixels"),
        ({"K": np.full((3, 3), np.nan)}, "finite"),
        ({"distortion": np.zeros(3)}, "coefficients"),
    ],
)
def test_what_is_no_calibrated_camera_is_refused(changes, word):
    with pytest.raises(BodyfitError, match=word):
        calibrated(**changes)
