"""Pictures show bodies where the camera says, the nearer before the farther, and never fail for where a body is."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from pytorch3d.renderer import Materials
from pytorch3d.renderer.mesh.shading import _apply_lighting
from pytorch3d.structures import Meshes
from pytorch3d.utils import ico_sphere

from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.camera import Camera, to_pytorch3d_axes
from bodyfit.raster import bands
from bodyfit.render import (
    MeshRasterizer,
    RasterizationSettings,
    Stage,
    StudioLights,
    Texture,
    contact_sheet,
    draw_maps,
    normal_colors,
    overlay,
    person_color,
    pytorch3d_cameras,
    render_bodies,
    side_view,
    studio,
    top_view,
    turn_view,
    turntable,
    undrawn,
)
from bodyfit.render.light import light_of_vertices
from bodyfit.render.lines import draw_line
from bodyfit.render.shade import draw_over, is_closed
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


def test_of_closed_meshes_what_looks_away_need_not_be_drawn():
    camera = Camera.make(1, (160, 120), focal_px=150.0)
    (ball, faces), (other, _) = _sphere(), _sphere(x=0.3, z=4.6)
    assert is_closed(faces, ball)
    assert not is_closed(faces[1:], ball)
    assert not is_closed(faces.flip(1), ball)
    whole, culled = _grey(160, 120), _grey(160, 120)
    for picture, closed in ((whole, False), (culled, True)):
        draw_over(picture, [(ball, RED), (other, GREEN)], faces, camera, shadows=False, closed=closed)
    assert _changed(whole, _grey(160, 120)).sum() > 1000
    np.testing.assert_array_equal(culled, whole)


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


def _two_that_intersect():
    """Spheres that cut each other, each seen by a camera of its own."""
    a, faces = _sphere(-0.2, 0.0, 4.0)
    b, _ = _sphere(0.25, 0.1, 4.2)
    cameras = Camera.make(
        2, (160, 120), focal_px=torch.tensor([150.0, 170.0]), principal_point_px=torch.tensor([[80.0, 60], [78, 61]])
    )
    return [(a, RED), (b, GREEN)], faces, cameras


def test_maps_agree_with_the_rasteriser_where_bodies_intersect():
    """PyTorch3D's depth of each body before its own camera: the nearer one shows, at its depth."""
    bodies, faces, cameras = _two_that_intersect()
    depths = []
    for i, (vertices, _) in enumerate(bodies):
        camera = pytorch3d_cameras(cameras.select([i]))
        rasterizer = MeshRasterizer(camera, RasterizationSettings(image_size=(120, 160)))
        depth = rasterizer(Meshes([to_pytorch3d_axes(vertices)], [faces])).zbuf[0, ..., 0].numpy()
        depths.append(np.where(depth < 0, np.inf, depth))
    nearest = np.minimum(*depths)
    person = np.where(np.isinf(nearest), 0, np.argmin(depths, 0) + 1)
    maps = draw_maps(bodies, faces, cameras, which=("depth", "silhouette"))
    same = maps.person == person
    assert same.mean() > 0.999  # pixels on an edge may fall either way
    assert {0, 1, 2} == set(np.unique(maps.person))
    both = same & (person > 0)
    np.testing.assert_allclose(maps.depth_m[both], nearest[both], rtol=1e-4)
    assert (maps.depth_m[maps.person == 0] == 0).all()
    assert maps.normal is None
    assert maps.part is None


def test_an_overlay_shows_whom_the_map_names():
    bodies, faces, cameras = _two_that_intersect()
    person = draw_maps(bodies, faces, cameras, which=("silhouette",)).person
    picture = overlay(_grey(160, 120), bodies, faces, cameras, opacity=1.0).astype(int)
    red = picture[..., 0] > picture[..., 1] + 20
    green = picture[..., 1] > picture[..., 0] + 20
    for mask, number in ((red, 1), (green, 2)):
        inner = person == number
        inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        inner[[0, -1]] = False
        assert mask[inner].all()


def test_normals_are_those_of_a_sphere():
    centre = torch.tensor([0.1, -0.2, 4.0])
    vertices, faces = _sphere(*centre.tolist(), level=4)
    camera = Camera.make(1, (120, 100), focal_px=150.0)
    maps = draw_maps([(vertices, RED)], faces, camera, which=("depth", "normal"))
    rows, columns = np.nonzero(maps.depth_m)
    ray = np.stack([(columns + 0.5 - 60) / 150, (rows + 0.5 - 50) / 150, np.ones(len(rows))], 1)
    points = ray * maps.depth_m[rows, columns, None]
    expected = (points - centre.numpy()) / 0.5
    inner = expected[:, 2] < -0.2
    # A face spans 4 degrees, within which its corners' normals are mixed.
    np.testing.assert_allclose(maps.normal[rows, columns][inner], expected[inner], atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(maps.normal[rows, columns], axis=1), 1, atol=1e-5)
    colors = normal_colors(maps.normal)
    assert (colors[maps.depth_m == 0] == 0).all()
    middle = colors[40, 64].astype(int)  # of the sphere's picture, facing the camera
    assert middle[2] > 250
    assert abs(middle[:2] - 127).max() < 15


def test_parts_are_those_that_weigh_most():
    vertices, faces = _sphere()
    camera = Camera.make(1, (80, 80))
    x, y = (vertices[:, k] / 0.5 for k in (0, 1))
    weights = torch.stack([-x - y, x - y, -x + y, x + y], 1)  # the boundaries are x = 0 and y = 0, across faces
    part = draw_maps([(vertices, RED)], faces, camera, part_weights=weights, which=("parts",)).part
    rows, columns = np.nonzero(part)
    quadrant = 1 + (columns >= 40) + 2 * (rows >= 40)
    assert (part[rows, columns] == quadrant).all()
    two = [(vertices - torch.tensor([0.6, 0, 0]), RED), (vertices + torch.tensor([0.6, 0, 0]), GREEN)]
    both = draw_maps(two, faces, camera, part_weights=weights, which=("parts",)).part
    assert {1, 2, 3, 4} == set(np.unique(both[:, :38])) - {0} == set(np.unique(both[:, 42:])) - {0}
    with pytest.raises(OptionError, match="part_weights"):
        draw_maps([(vertices, RED)], faces, camera, which=("parts",))
    with pytest.raises((ShapeError, TypeError), match="part_weights"):
        draw_maps([(vertices, RED)], faces, camera, part_weights=weights[:5], which=("parts",))
    with pytest.raises(OptionError, match="depth, normal"):
        draw_maps([(vertices, RED)], faces, camera, which=("colour",))


def test_coverage_is_the_area_of_the_silhouette():
    """A triangle at many places: its mean coverage is its area to a thousandth, no sample pattern leans to a side."""
    rng = np.random.default_rng(0)
    camera = Camera.make(1, (64, 64), focal_px=64.0)
    ratios, shifts = [], []
    for corners in rng.uniform(4, 60, (60, 3, 2)):
        area = 0.5 * abs(np.linalg.det(corners[1:] - corners[0]))
        if area < 100:
            continue
        xyz = torch.from_numpy(np.concatenate([(corners - 32) / 64 * 2, np.full((3, 1), 2.0)], 1)).float()
        layer = render_bodies([(xyz, RED)], torch.tensor([[0, 1, 2]]), camera, shadows=False)
        alpha = layer.rgba[..., 3].astype(float)
        x = (alpha.sum(0) @ (np.arange(alpha.shape[1]) + 0.5 + layer.corner_px[0])) / alpha.sum()
        ratios.append(alpha.sum() / area)
        shifts.append(x - corners[:, 0].mean())
        assert len(np.unique(alpha)) > 5  # soft
    assert len(ratios) > 20
    np.testing.assert_allclose(np.mean(ratios), 1, atol=1e-3)
    np.testing.assert_allclose(ratios, 1, atol=0.02)
    np.testing.assert_allclose(np.mean(shifts), 0, atol=0.01)


@pytest.mark.parametrize("samples", [1, 8 * 37 * 3, 1 << 30])
def test_bands_and_threads_do_not_show(monkeypatch, samples):
    bodies, faces, cameras = _two_that_intersect()
    texture = Texture(np.full((8, 8, 3), 200, np.uint8), np.zeros((1, 2)), np.zeros((len(faces), 3), np.int64))
    dressed = [(bodies[0][0], texture), bodies[1]]
    expected = overlay(_grey(160, 120), dressed, faces, cameras)
    room = studio(dressed, faces, size=(50, 60), grid_m=0.5)
    monkeypatch.setattr(bands, "_BAND_SAMPLES", samples)
    np.testing.assert_array_equal(overlay(_grey(160, 120), dressed, faces, cameras), expected)
    np.testing.assert_array_equal(studio(dressed, faces, size=(50, 60), grid_m=0.5), room)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(overlay(_grey(160, 120), dressed, faces, cameras), expected)
    finally:
        torch.set_num_threads(before)


def test_a_texture_lies_where_its_coordinates_say():
    """A square of two triangles, textured by four colours; the picture's origin is at the lower left of the texture."""
    xyz = torch.tensor([[-1.0, -1, 4], [1, -1, 4], [1, 1, 4], [-1, 1, 4]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    uv = np.array([[0.0, 1], [1, 1], [1, 0], [0, 0]])  # y down in the camera is down in the picture
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:], image[32:, :32], image[32:, 32:] = (250, 0, 0), (0, 250, 0), (0, 0, 250), 250
    camera = Camera.make(1, (80, 80), focal_px=100.0)
    picture = overlay(_grey(80, 80), [(xyz, Texture(image, uv, faces.numpy()))], faces, camera, opacity=1.0).astype(int)
    for (x, y), strong in (((25, 25), [0]), ((55, 25), [1]), ((25, 55), [2]), ((55, 55), [0, 1, 2])):
        weak = [k for k in range(3) if k not in strong]
        assert picture[y, x][strong].min() > 60 + picture[y, x][weak].max(initial=0)
    with pytest.raises(OptionError, match="uv_faces"):
        Texture(image, uv, faces.numpy() + 1)
    with pytest.raises(ShapeError):
        overlay(_grey(80, 80), [(xyz, Texture(image, uv, faces.numpy()[:1]))], faces, camera)


def test_colours_may_differ_from_vertex_to_vertex():
    vertices, faces = _sphere()
    colors = torch.where(vertices[:, :1] > 0, torch.tensor(RED), torch.tensor(GREEN))
    picture = overlay(_grey(80, 80), [(vertices, colors)], faces, Camera.make(1, (80, 80)), opacity=1.0).astype(int)
    assert picture[40, 34, 1] > picture[40, 34, 0] + 50
    assert picture[40, 46, 0] > picture[40, 46, 1] + 50
    for wrong in ((1.0, 0.5), (255.0, 0.0, 0.0), torch.zeros(3, 3)):
        with pytest.raises((OptionError, TypeError)):
            overlay(_grey(80, 80), [(vertices, wrong)], faces, Camera.make(1, (80, 80)))


def test_one_body_darkens_another_below_it_and_is_not_darkened():
    below, faces = _sphere(0, 0.6, 4.0)
    above, _ = _sphere(-0.3, -0.45, 3.7, radius=0.4)  # towards the key light, above the camera's left
    camera = Camera.make(1, (100, 100), focal_px=100.0)

    def light(*bodies):
        return overlay(_grey(100, 100), list(bodies), faces, camera, opacity=1.0).astype(float).max(2)

    both = light((below, RED), (above, RED))
    person = draw_maps([(below, RED), (above, RED)], faces, camera, which=("silhouette",)).person
    assert np.quantile((both / light((below, RED)))[person == 1], 0.05) < 0.9
    assert np.quantile((both / light((above, RED)))[(person == 2) & (np.arange(100) < 35)[:, None]], 0.05) > 0.97


def test_light_without_shadows_is_what_pytorch3d_computes():
    """`StudioLights` behind PyTorch3D's own lighting of points, its glint included."""
    vertices, _ = _sphere(0.3, -0.2, 3.0)
    normals = torch.nn.functional.normalize(vertices - torch.tensor([0.3, -0.2, 3.0]), dim=1)
    light = light_of_vertices(vertices.numpy(), normals.numpy(), None)
    lights, materials = StudioLights(), Materials(shininess=24.0)
    camera = pytorch3d_cameras(Camera.make(1, (60, 50)))
    at, towards = (to_pytorch3d_axes(a)[None] for a in (vertices, normals))
    ambient, diffuse, specular = _apply_lighting(at, towards, lights, camera, materials)
    np.testing.assert_allclose(light[:, :3], (ambient + diffuse).reshape(-1, 3).numpy(), atol=1e-5)
    np.testing.assert_allclose(light[:, 3], specular.reshape(-1, 3)[:, 0].numpy(), atol=1e-5)
    assert light[:, 3].max() > 0.03


def test_a_skeleton_is_drawn_at_the_joints():
    joints = torch.zeros(24, 3)
    joints[:, 2] = 4.0
    joints[:, 0] = torch.linspace(-1, 1, 24)
    joints[3, 2] = -1.0  # behind the camera
    camera = Camera.make(1, (400, 100), focal_px=400.0)
    vertices, faces = _sphere(z=-5.0)
    picture = overlay(_grey(400, 100), [(vertices, RED)], faces, camera, joints=[joints])
    x = (camera.project(joints[None])[0, :, 0]).long().tolist()
    assert all((picture[50, x[k]] != 100).any() for k in range(24) if k != 3)
    with pytest.raises(OptionError, match="joints"):
        overlay(_grey(400, 100), [], faces, camera, joints=[joints])


def test_who_cannot_be_drawn_is_named():
    vertices, _ = _sphere()
    bodies = [(vertices + torch.tensor(t), RED) for t in ([0.0, 0, 0], [0, 0, -9.0], [99.0, 0, 0], [np.nan, 0, 0])]
    reasons = undrawn(bodies, Camera.make(1, (60, 50)))
    assert reasons[0] is None
    for reason, word in zip(reasons[1:], ("behind", "outside", "finite"), strict=True):
        assert word in (reason or "")


def test_a_mesh_without_faces_is_refused():
    vertices, _ = _sphere()
    none = torch.zeros(0, 3, dtype=torch.long)
    for draw in (
        lambda: overlay(_grey(60, 50), [(vertices, RED)], none, Camera.make(1, (60, 50))),
        lambda: side_view(vertices, none),
        lambda: draw_maps([(vertices, RED)], none, Camera.make(1, (60, 50)), which=("depth",)),
    ):
        with pytest.raises(OptionError, match="without triangles"):
            draw()
    with pytest.raises(OptionError, match="rows of vertices"):
        side_view(vertices[:10], _sphere()[1])


def test_an_opacity_beyond_1_is_refused():
    vertices, faces = _sphere()
    with pytest.raises(OptionError, match="opacity"):
        overlay(_grey(60, 50), [(vertices, RED)], faces, Camera.make(1, (60, 50)), opacity=1.5)


def test_a_picture_of_20000_pixels_needs_little_memory():
    """Beside the picture and its copy, which are the caller's: bands, not the picture's size times some bytes."""
    vertices, faces = _sphere(radius=1.0)
    size = (20_000, 1_500)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    camera = Camera.make(1, size, focal_px=9_000.0)
    overlay(image[:20, :20].copy(), [(vertices, RED)], faces, Camera.make(1, (20, 20)))
    tracemalloc.start()
    picture = overlay(image, [(vertices, RED)], faces, camera, shadows=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert _changed(picture, image).mean() > 0.15
    assert peak - picture.nbytes < 30e6


def test_a_stage_keeps_its_scale_from_frame_to_frame():
    """One that walks away from the side's camera grows smaller by perspective alone and never jumps to fill it."""
    vertices, faces = _sphere()
    clip = torch.stack([vertices + torch.tensor([0.0, 0.0, 0.4 * t]) for t in range(6)])
    stage = Stage.around(clip, view="side", size=(300, 120))
    widths, middles = [], []
    for frame in clip:
        columns = _ink(side_view(frame, faces, stage=stage))[0]
        widths.append(np.ptp(columns) + 1)
        middles.append(columns.mean())
    np.testing.assert_allclose(widths, widths[0], atol=1)
    steps = np.diff(middles)
    assert (steps > 5).all()  # who goes away from the photograph's camera goes to the right
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.1)
    assert Stage.around(list(clip), view="side", size=(300, 120)).distance_m == stage.distance_m
    raised = _ink(side_view(clip[0] - torch.tensor([0, 0.3, 0]), faces, stage=stage))[1]
    assert raised.mean() < _ink(side_view(clip[0], faces, stage=stage))[1].mean() - 5


def test_a_stage_of_a_long_clip_is_that_of_its_outermost_vertices(monkeypatch):
    vertices, _ = _lopsided()
    clip = torch.stack([vertices + torch.tensor([0.1 * t, 0.0, 0.2 * t]) for t in range(5)])
    exact = Stage.around(clip, view=(30.0, 10.0), size=(200, 150))
    monkeypatch.setattr("bodyfit.render.stage._MANY", 0)
    fast = Stage.around(clip, view=(30.0, 10.0), size=(200, 150))
    np.testing.assert_allclose(float(fast.camera.focal_px), float(exact.camera.focal_px), rtol=0.02)
    np.testing.assert_allclose(fast.pivot_m, exact.pivot_m, atol=0.02)


def test_a_stage_from_below_has_no_ground_before_it():
    vertices, faces = _sphere()
    picture = studio([(vertices, RED)], faces, view=(0.0, -40.0), size=(80, 80), grid_m=0.1).astype(int)
    assert np.ptp(picture[:5].sum(2)) < 60
    assert _ink(picture.astype(np.uint8)).size > 0


def test_from_above_away_is_up_and_right_is_right():
    near, faces = _sphere(-0.6, 0.0, 3.0, radius=0.3)
    far, _ = _sphere(0.7, 0.0, 5.0, radius=0.3)
    picture = studio([(near, RED), (far, GREEN)], faces, view="top", size=(160, 240)).astype(int)
    red = np.argwhere(picture[..., 0] > picture[..., 1] + 60).mean(0)
    green = np.argwhere(picture[..., 1] > picture[..., 0] + 60).mean(0)
    assert green[0] < red[0] - 50
    assert green[1] > red[1] + 30
    assert top_view(near, faces, size=(60, 50)).shape == (50, 60, 3)
    with pytest.raises(OptionError, match="front, side, top"):
        studio([(near, RED)], faces, view="left")


def test_a_turntable_turns_once_and_holds_everything():
    vertices, faces = _lopsided()
    frames = turntable([(vertices, RED)], faces, frames=8, size=(120, 160))
    assert len(frames) == 8
    for picture in frames:
        columns, rows = _ink(picture)
        assert columns.min() > 0
        assert columns.max() < 119
        assert rows.min() > 0
    heights = [np.ptp(_ink(picture)[1]) for picture in frames]
    assert max(heights) - min(heights) < 0.1 * max(heights)
    assert (frames[0] != frames[4]).any()
    with pytest.raises(OptionError, match="frames"):
        turntable([(vertices, RED)], faces, frames=0)


def test_the_ground_is_dark_below_a_body_and_light_beside_it():
    vertices, faces = _sphere()
    picture = studio([(vertices, RED)], faces, view=(0.0, 30.0), size=(240, 240)).astype(int)
    grey = np.where(np.ptp(picture, axis=2) < 30, picture.sum(2), 10_000)
    below = grey[200:235]
    assert below.min() < 0.8 * np.median(below[:, :40])  # the key casts it away from its side, the left
    with_grid = studio([(vertices, RED)], faces, view=(0.0, 30.0), size=(240, 240), grid_m=0.25).astype(int)
    darker = (with_grid.sum(2) < picture.sum(2) - 20) & (grey < 10_000)
    assert 0.01 < darker.mean() < 0.2
