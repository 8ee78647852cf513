"""Pictures show bodies where the camera says, the nearer before the farther, and never fail for where a body is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch3d.utils import ico_sphere

from bodyfit.camera import Camera
from bodyfit.errors import OptionError, ShapeError
from bodyfit.render import contact_sheet, overlay, person_color, render_bodies, side_view, turn_view
from bodyfit.render.lines import draw_line
from bodyfit.skeleton import LAYOUTS

RED, GREEN = (0.9, 0.1, 0.1), (0.1, 0.9, 0.1)


def _sphere(x: float = 0.0, y: float = 0.0, z: float = 4.0, radius: float = 0.5, level: int = 3):
    """Vertices in camera axes, and faces that still wind counter-clockwise from outside."""
    mesh = ico_sphere(level)
    return mesh.verts_packed() * radius + torch.tensor([x, y, z]), mesh.faces_packed()


def _grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def _changed(picture: np.ndarray, before: np.ndarray) -> np.ndarray:
    return (picture != before).any(2)


@pytest.mark.parametrize("size", [(160, 120), (90, 200)])
@pytest.mark.parametrize("centre", [None, (70.3, 41.9)])
def test_the_silhouette_is_where_the_camera_projects(size, centre):
    camera = Camera.make(1, size, focal_px=180.0, principal_point_px=centre)
    vertices, faces = _sphere(0.15, -0.2)
    layer = render_bodies([(vertices, RED)], faces, camera)
    assert layer is not None
    alpha = np.zeros((size[1], size[0]))
    x, y = layer.corner_px
    alpha[y : y + layer.rgba.shape[0], x : x + layer.rgba.shape[1]] = layer.rgba[..., 3]
    rows, columns = np.nonzero(alpha >= 0.5)
    whole = camera.project(vertices[None])[0]
    xy = whole.clamp(torch.zeros(2), torch.tensor(size, dtype=torch.float32))
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
    # Coverage is known to half a sample (a quarter of a pixel), its border lies within half a pixel of the corner's.
    np.testing.assert_allclose(drawn, torch.cat([xy.amin(0), xy.amax(0)]).numpy(), atol=0.75)
    # The soft edge keeps the area: the centroid of the coverage is the silhouette's, far below a pixel.
    inside = torch.tensor([alpha.sum(1) @ (np.arange(size[1]) + 0.5), alpha.sum(0) @ (np.arange(size[0]) + 0.5)])
    if torch.equal(xy, whole):
        middle = (xy.amin(0) + xy.amax(0)) / 2
        assert abs(float(inside[1]) / alpha.sum() - float(middle[0])) < 0.15
        assert abs(float(inside[0]) / alpha.sum() - float(middle[1])) < 0.15


def test_every_vertex_lands_on_the_silhouette():
    camera = Camera.make(1, (150, 100), focal_px=140.0)
    vertices, faces = _sphere(-0.3, 0.1, 3.0)
    picture = overlay(_grey(150, 100), [(vertices, RED)], faces, camera)
    mask = _changed(picture, _grey(150, 100))
    grown = np.pad(mask, 1)
    grown = np.any([grown[1 + a : 101 + a, 1 + b : 151 + b] for a in (-1, 0, 1) for b in (-1, 0, 1)], axis=0)
    column, row = camera.project(vertices[None])[0].floor().long().T
    assert grown[row, column].all()


def test_edges_are_soft_and_stay_within_bounds():
    vertices, faces = _sphere()
    layer = render_bodies([(vertices, (1.0, 1.0, 1.0))], faces, Camera.make(1, (120, 120)))
    assert layer is not None
    alpha = layer.rgba[..., 3]
    assert layer.rgba.min() >= 0
    assert layer.rgba.max() <= 1
    assert ((alpha > 0.05) & (alpha < 0.95)).any()
    assert (layer.rgba[..., :3] <= alpha[..., None] + 1e-6).all()


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_body_hides_the_farther_whatever_their_order(order):
    (near, faces), (far, _) = _sphere(0.2, z=3.0, radius=0.3), _sphere(-0.1, z=5.0)
    bodies = [(near, RED), (far, GREEN)][::order]
    picture = overlay(_grey(120, 120), bodies, faces, Camera.make(1, (120, 120)), opacity=1.0)
    camera = Camera.make(1, (120, 120))
    for centre, channel in (((0.2, 0.0, 3.0), 0), ((-0.5, 0.0, 5.0), 1)):
        column, row = camera.project(torch.tensor([[centre]]))[0, 0].long().tolist()
        assert picture[row, column].argmax() == channel


def test_each_body_may_have_its_own_camera():
    a, faces = _sphere(-0.4)
    b, _ = _sphere(0.5, 0.1, 5.0)
    cameras = Camera.make(
        2, (140, 120), focal_px=torch.tensor([150.0, 190.0]), principal_point_px=torch.tensor([[70.0, 60], [66, 63]])
    )
    alike = {"opacity": 1.0, "shadows": False}  # one alone casts none on the other
    together = overlay(_grey(140, 120), [(a, RED), (b, GREEN)], faces, cameras, **alike).astype(int)
    far = overlay(_grey(140, 120), [(b, GREEN)], faces, cameras.select([1]), **alike)
    both = overlay(far, [(a, RED)], faces, cameras.select([0]), **alike).astype(int)
    # The highlight moves a little with the stretch that stands for the focal length, and pixels that both touch blend
    # differently when the second comes over the blended first.
    assert (np.abs(together - both).max(2) > 12).mean() < 0.005
    assert (np.abs(together - both).max(2) > 2).mean() < 0.05
    assert (_changed(together, _grey(140, 120)) != _changed(both, _grey(140, 120))).mean() < 0.001


@pytest.mark.parametrize("z", [-4.0, 0.0, 0.3, 1e-3])
def test_bodies_at_and_behind_the_camera_do_not_fail(z):
    vertices, faces = _sphere(z=z)
    picture = overlay(_grey(60, 50), [(vertices, RED)], faces, Camera.make(1, (60, 50)))
    assert picture.shape == (50, 60, 3)
    if z == -4.0:
        assert (picture == 100).all()


@pytest.mark.parametrize("where", [(50.0, 0.0), (0.0, -50.0), (-1.6, 1.2)])
def test_bodies_outside_the_picture_leave_it_as_it_was(where):
    vertices, faces = _sphere(*where)
    picture = overlay(_grey(60, 50), [(vertices, RED)], faces, Camera.make(1, (60, 50), focal_px=100.0))
    if abs(where[0]) + abs(where[1]) > 10:
        assert (picture == 100).all()


def test_a_failed_fit_is_left_out():
    vertices, faces = _sphere()
    camera = Camera.make(1, (60, 50))
    lost = torch.full_like(vertices, torch.nan)
    one = overlay(_grey(60, 50), [(vertices, RED)], faces, camera)
    np.testing.assert_array_equal(overlay(_grey(60, 50), [(lost, GREEN), (vertices, RED)], faces, camera), one)
    np.testing.assert_array_equal(overlay(_grey(60, 50), [(lost, GREEN)], faces, camera), _grey(60, 50))
    np.testing.assert_array_equal(overlay(_grey(60, 50), [], faces, camera), _grey(60, 50))
    assert side_view(lost, faces, size=(30, 40)).shape == (40, 30, 3)


def test_opacity_lets_the_photograph_through():
    vertices, faces = _sphere()
    camera = Camera.make(1, (60, 50))
    dark, light = (overlay(np.full((50, 60, 3), v, np.uint8), [(vertices, RED)], faces, camera) for v in (0, 255))
    difference = light[25, 30].astype(int) - dark[25, 30]
    np.testing.assert_allclose(difference, 0.12 * 255, atol=1)


def test_keypoints_fade_with_confidence_and_missing_ones_are_not_drawn():
    _, faces = _sphere()
    names = LAYOUTS["coco17"]
    xyc = np.zeros((len(names), 3))
    xyc[:, :2] = np.nan
    at = {"left_elbow": (20.5, 20.5, 1.0), "right_elbow": (60.5, 20.5, 0.3), "left_ankle": (20.5, 60.5, 0.05)}
    for name, row in at.items():
        xyc[names.index(name)] = row
    xyc[names.index("nose")] = (1e9, -1e9, 1.0)
    picture = overlay(
        _grey(100, 80), [], faces, Camera.make(1, (100, 80)), keypoints=[xyc, torch.zeros(17, 3)], layout="coco17"
    ).astype(int)
    sure, unsure, hidden = (np.abs(picture[y, x] - 100).max() for y, x in ((20, 20), (20, 60), (60, 20)))
    assert sure > unsure > 0
    assert hidden == 0
    assert (picture[0] == 100).all()


def test_a_line_lies_where_its_ends_do():
    picture = np.zeros((40, 60, 3), np.uint8)
    draw_line(picture, np.array([10.5, 8.25]), np.array([50.5, 30.75]), 1.0, (1.0, 1.0, 1.0), 1.0)
    weight = picture[..., 0] / 255
    rows, columns = np.mgrid[:40, :60] + 0.5
    # A line's coverage is symmetric about its middle.
    np.testing.assert_allclose((weight * columns).sum() / weight.sum(), 30.5, atol=0.02)
    np.testing.assert_allclose((weight * rows).sum() / weight.sum(), 19.5, atol=0.02)
    np.testing.assert_allclose(weight.sum(), 2 * np.hypot(40, 22.5) + np.pi, rtol=0.03)


def test_wrong_arguments_are_named():
    vertices, faces = _sphere()
    camera = Camera.make(1, (60, 50))
    with pytest.raises(OptionError, match="layout"):
        overlay(_grey(60, 50), [], faces, camera, keypoints=[np.zeros((17, 3))])
    with pytest.raises(OptionError, match="picture"):
        overlay(_grey(50, 60), [(vertices, RED)], faces, camera)
    with pytest.raises(OptionError, match="camera"):
        overlay(_grey(60, 50), [(vertices, RED)], faces, Camera.make(3, (60, 50)))
    with pytest.raises(OptionError, match="at least one"):
        contact_sheet([])
    with pytest.raises((ShapeError, TypeError)):
        side_view(vertices[None], faces)


def _lopsided() -> tuple[torch.Tensor, torch.Tensor]:
    """A big ball below, a small one above that leans to the body's left (camera +x) and forward (camera -z)."""
    big, faces = _sphere(0, 0.5, 4.0)
    small, _ = _sphere(0.35, -0.3, 3.5, radius=0.2)
    return torch.cat([big, small]), torch.cat([faces, faces + len(big)])


def _ink(picture: np.ndarray, *, top: float = 0.0, bottom: float = 1.0) -> np.ndarray:
    """Columns and rows of coloured (not grey) pixels in a part of the picture."""
    height = picture.shape[0]
    part = picture[int(top * height) : int(bottom * height)].astype(int)
    rows, columns = np.nonzero(np.ptp(part, axis=2) > 40)
    return np.stack([columns, rows + int(top * height)])


def test_the_side_view_shows_the_left_with_the_front_to_the_picture_s_left():
    vertices, faces = _lopsided()
    picture = side_view(vertices, faces, size=(200, 240))
    head, all_of_it = _ink(picture, bottom=0.3), _ink(picture)
    assert head[0].mean() < all_of_it[0].mean() - 10  # forward is left
    assert all_of_it[1].max() - all_of_it[1].min() > 0.7 * 240  # it fills the picture, upright
    # Seen from the other side the small ball is farther off and so smaller.
    other = side_view(vertices * torch.tensor([-1.0, 1.0, 1.0]), faces.flip(1), size=(200, 240))
    assert _ink(other, bottom=0.3).shape[1] < head.shape[1]


def test_a_symmetric_body_looks_the_same_from_both_sides():
    left, faces = _sphere(0.4, -0.1, 4.0, radius=0.2)
    middle, _ = _sphere(0.0, 0.5, 3.8)
    vertices = torch.cat([middle, left, left * torch.tensor([-1.0, 1.0, 1.0])])
    faces = torch.cat([faces, faces + len(left), faces.flip(1) + 2 * len(left)])
    mirrored = vertices * torch.tensor([-1.0, 1.0, 1.0])
    a, b = side_view(vertices, faces, size=(150, 180)), side_view(mirrored, faces.flip(1), size=(150, 180))
    assert (np.abs(a.astype(int) - b) > 8).any(2).mean() < 0.01  # pixels on an edge may fall either way


def test_where_a_body_stands_does_not_change_its_side_view():
    vertices, faces = _lopsided()
    a, b = (side_view(vertices + torch.tensor(t), faces, size=(100, 120)) for t in ([0.0] * 3, [2.0, -1.0, 7.0]))
    assert (np.abs(a.astype(int) - b) > 8).any(2).mean() < 0.01


def test_a_turn_view_turns_about_the_vertical():
    vertices, faces = _lopsided()
    model_frame = vertices * torch.tensor([1.0, -1.0, -1.0])
    views = {yaw: turn_view(model_frame, faces, yaw, (200, 240)) for yaw in (0.0, 90.0, 360.0, -90.0)}
    np.testing.assert_allclose(views[0].astype(int), views[360], atol=3)
    offset = {yaw: _ink(v, bottom=0.3)[0].mean() - _ink(v, top=0.5)[0].mean() for yaw, v in views.items()}
    assert offset[0] > 10  # the body's left is on the picture's right
    assert offset[90] > 10  # and its front comes there
    assert offset[-90] < -10
    np.testing.assert_array_equal(views[-90], side_view(vertices, faces, size=(200, 240)))


def test_a_contact_sheet_holds_every_picture():
    pictures = [np.full((20, 10 + k, 3), 40 * k, np.uint8) for k in range(5)]
    sheet = contact_sheet(pictures, columns=3, gap_px=4)
    assert sheet.shape == (2 * 24 + 4, 3 * 18 + 4, 3)
    for k, picture in enumerate(pictures):
        assert (sheet == 40 * k).all(2).sum() == picture[..., 0].size
    assert contact_sheet(pictures[:1]).shape == (36, 26, 3)


def test_people_have_colours_of_their_own():
    assert len({person_color(i) for i in range(6)}) == 6
    assert person_color(2) == person_color(8)
