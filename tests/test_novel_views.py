"""New views of the person of one photograph: squares, depth, colours, what comes of them, the command, its scores."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from test_avatars import fitted, painted, photographed, turned

import bodyfit
from bodyfit.app.new_views import Angles
from bodyfit.cli.main import main
from bodyfit.detect.networks.perceptual import Perceptual
from bodyfit.errors import ImageError, OptionError
from bodyfit.evaluate.views import compare_views
from bodyfit.fit.result import FitStatus
from bodyfit.images.similarity import box_of, psnr_db
from bodyfit.io import save_picture
from bodyfit.io.picture import save_webp
from bodyfit.io.results.params import save
from bodyfit.novel_views.appearance import Appearance, mirrored_vertices
from bodyfit.novel_views.assemble import Layers, body_maps, completed, view_input
from bodyfit.novel_views.background import without_person
from bodyfit.novel_views.clothes import clothed_body
from bodyfit.novel_views.lift import Lifted, lifted
from bodyfit.novel_views.square import Body, square_of, turn_of
from bodyfit.novel_views.views import NewViews


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def texture(model):
    return painted(model)


@pytest.fixture(scope="module")
def view(model, texture):
    """The painted person from ahead."""
    return photographed(model, texture, turned(model, 0))


def posed(model, params):
    with torch.no_grad():
        return Body.of(model(**params).vertices[0].double().numpy(), model.faces.numpy())


@pytest.fixture(scope="module")
def body(model, view):
    return posed(model, view.params)


@pytest.fixture(scope="module")
def square(view, body):
    return square_of(view, body, 128)


def on_white(rgba):
    return np.round(255 * (rgba[..., :3] + 1 - rgba[..., 3:]).clip(0, 1)).astype(np.uint8)


def test_a_square_is_the_picture_resized(view, body, square):
    points = body.vertices[::50]
    fx, fy, cx, cy = view.lens
    in_picture = points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)
    at = square.project(points)
    np.testing.assert_allclose(at[:, :2], (in_picture - square.corner_px) * square.scale, atol=1e-9)
    rows, columns = np.array([3, 90]), np.array([100, 7])
    there = square.unproject(rows, columns, np.array([2.0, 3.5]))
    np.testing.assert_allclose(square.project(there), [(100.5, 3.5, 2.0), (7.5, 90.5, 3.5)])
    for yaw in range(0, 360, 30):  # there is room for every turn
        xy = square.project(body.turned(turn_of(yaw)).vertices)[:, :2]
        assert xy.min() > 0
        assert xy.max() < square.side


def test_a_person_beyond_the_border_is_no_person(view, body):
    cut = view.cropped(80, 0, 160, 200)
    part = square_of(cut, body, 128)
    assert part.image.shape == (128, 128, 3)
    left = round((0 - part.corner_px[0]) * part.scale)
    assert not part.mask[:, : left - 1].any()
    assert part.mask.any()


def test_turns_are_rotations_with_their_signs():
    np.testing.assert_allclose(turn_of(90) @ (0, 0, -1), (1, 0, 0), atol=1e-12)  # who faced the camera faces right
    R = turn_of(30, 20)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0
    assert (turn_of(0, 20) @ (0, -1, 0))[2] < 0  # from above the head is nearer


def test_depth_goes_on_beyond_the_body_from_its_nearest_pixel(square, body):
    depth, drawn = lifted(square, body).depth_m, square.depth(body)
    there = drawn.faces >= 0
    np.testing.assert_array_equal(depth[there], drawn.depth_m[there])
    nearest = distance_transform_edt(~there, return_distances=False, return_indices=True)
    same = depth == drawn.depth_m[tuple(nearest)]
    assert same.mean() > 0.9  # pixels as far from two limbs may take either
    beside = replace(body, vertices=body.vertices + np.array([50.0, 0, 0]))
    assert (lifted(square, beside).depth_m == np.float32(body.pivot[2])).all()


def test_points_are_the_pixels_at_their_depth(square, body):
    points = lifted(square, body).points()
    assert len(points.xyz_m) == square.mask.sum()
    rows, columns = np.nonzero(square.mask)
    np.testing.assert_allclose(square.project(points.xyz_m)[:, :2], np.stack([columns, rows], 1) + 0.5, atol=1e-6)
    np.testing.assert_allclose(points.xyz_m[:, 2], lifted(square, body).depth_m[rows, columns])
    assert ((points.facing > 0) & (points.facing <= 1)).all()


def test_an_outline_has_no_background_in_it(square, body):
    """Edges of a mask that are one pixel of background wide do not change colours, and all of its pixels are points."""
    spoilt = np.where(
        cv2.erode(square.mask.astype(np.uint8), np.ones((3, 3), np.uint8))[..., None] > 0, square.image, 9
    )
    one, other = (lifted(replace(square, image=image), body).points() for image in (square.image, spoilt))
    np.testing.assert_array_equal(one.color, other.color)
    own = lifted(square, body).points(erode_px=0).color
    np.testing.assert_array_equal(own, square.image[square.mask].astype(np.float32) / np.float32(255))


def test_a_square_of_about_its_side_is_not_resized(view, body):
    natural = round(128 / square_of(view, body, 128).scale)
    a_little_larger = square_of(view, body, natural + 20)
    assert a_little_larger.scale == 1
    x, y = a_little_larger.corner_px
    rows, columns = np.nonzero(a_little_larger.within((view.mask.shape[1], view.mask.shape[0])))
    np.testing.assert_array_equal(a_little_larger.image[rows, columns], view.image[rows + y, columns + x])


def test_clothes_move_the_surface_and_not_the_pivot(model, view, body):
    moved = clothed_body(body, view.image, view.mask, view.lens)
    away = np.linalg.norm(moved.vertices - body.vertices, axis=1)
    assert 0.001 < np.median(away) < 0.08
    np.testing.assert_array_equal(moved.pivot, body.pivot)
    np.testing.assert_array_equal(moved.turned(turn_of(40)).pivot, body.pivot)
    other = replace(body, vertices=body.vertices[:100], faces=body.faces[:1] * 0)
    assert clothed_body(other, view.image, view.mask, view.lens) is other  # no open body
    assert clothed_body(body, view.image, np.zeros_like(view.mask), view.lens) is body


def test_finer_samples_give_outlines_parts_of_pixels(model, body, square):
    appearance = Appearance(square, body, mirrored_vertices(model.v_template.double().numpy()))
    coarse, fine = (body_maps(square, body, appearance, finer=times) for times in (1, 2))
    assert set(np.unique(coarse.avatar[..., 3])) == {0, 1}
    assert set(np.unique(fine.avatar[..., 3])) == {0, 0.25, 0.5, 0.75, 1}
    inner = (coarse.avatar[..., 3] == 1) & (fine.avatar[..., 3] == 1)
    assert inner.sum() > 0.9 * (coarse.avatar[..., 3] == 1).sum()
    np.testing.assert_array_equal(np.isfinite(fine.depth_m), fine.avatar[..., 3] > 0)
    assert np.median(np.abs(fine.depth_m[inner] - coarse.depth_m[inner])) < 0.01


def test_the_mask_is_that_of_the_surface_and_of_what_is_well_beside_it():
    splat, avatar = np.zeros((256, 256, 6), np.float32), np.zeros((256, 256, 5), np.float32)
    avatar[:, 20:40, 3] = 1
    splat[:, 20:42, 3] = 1  # two pixels too wide: the edge of pixels that were moved is ragged
    splat[10:20, 50:60, 3] = 1  # what the person carries
    splat[100:120, 30:50, 3] = 1
    rgba = completed(Layers(splat, avatar), None)
    whole = rgba[..., 3]
    assert whole[30, 22:38].min() > 0.99
    np.testing.assert_allclose((whole[:, 39] + whole[:, 40])[:90], 1, atol=1e-5)  # softened about the surface's edge
    assert whole[30, 42:].max() < 0.01
    assert whole[12:18, 52:58].min() > 0.99
    assert whole[102:118, 22:48].min() > 0.99
    empty = np.zeros((256, 256, 3), np.float32)
    inputs = view_input(Layers(splat, avatar), np.full((256, 256), np.inf, np.float32), empty, 3.0)
    assert inputs.shape == (16, 256, 256)
    np.testing.assert_array_equal(inputs[15], whole)


def test_larger_squares_do_not_mix_limbs(view, body, square):
    """Every depth of the larger square is one of the smaller one about there, or lies between near ones."""
    steps = np.where(np.arange(128) < 64, 2.0, 3.0).astype(np.float32)
    depth = np.tile(steps, (128, 1))
    larger = Lifted(square, depth).enlarged(square_of(view, body, 300))
    assert np.isin(larger.depth_m, (2.0, 3.0)).all()


def test_the_template_is_its_own_mirror_image(model):
    mirror = mirrored_vertices(model.v_template.numpy())
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(mirror)))
    rest = model.v_template.numpy()
    np.testing.assert_allclose(rest[mirror], rest * (-1, 1, 1), atol=1e-6)


def symmetric(model):
    """A texture that is the same on both sides of the body."""
    mirrored = model.v_template.clone()
    mirrored[:, 0] = mirrored[:, 0].abs()
    return painted(type("Half", (), {**vars(model), "v_template": mirrored, "faces": model.faces}))


def test_what_is_hidden_has_the_colours_of_the_other_side(model, view, body):
    side = photographed(model, symmetric(model), turned(model, 70))
    there = posed(model, side.params)
    appearance = Appearance(square_of(side, there, 200), there, mirrored_vertices(model.v_template.numpy()))
    turn = turn_of(-140)  # what was the far side faces the camera now
    back = there.turned(turn)
    drawn = appearance.draw(back, appearance.square.depth(back), appearance.square)
    truth_view = photographed(model, symmetric(model), turned(model, -70))
    truth = square_of(truth_view, posed(model, truth_view.params), 200)
    where = (drawn[..., 4] > 0.1) & truth.mask
    assert where.sum() > 0.35 * truth.mask.sum()  # much of it is known from the other side
    error = np.abs(255 * drawn[..., :3] - truth.image)[where]
    assert np.median(error) < 12
    alone = replace(appearance, mirror=np.arange(len(appearance.mirror)))
    assert np.median(alone.draw(back, appearance.square.depth(back), appearance.square)[where][:, 4]) < 0.1


def test_a_photograph_that_is_not_turned_stays(model, view):
    views = NewViews(view, model)
    drawn = views.draw(0.0)
    assert drawn.shape[:2] == (256, 256)
    assert drawn.min() >= 0
    assert drawn[..., 3].max() <= 1
    picture = views.over(np.full_like(view.image, 255), 0.0)
    truth = np.where(view.mask[..., None], view.image, np.uint8(255))
    box = box_of(view.mask)
    assert psnr_db(picture[box], truth[box]) > 22
    outside = cv2.dilate(view.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert np.abs(picture[outside].astype(int) - 255).max() <= 8
    assert views.reason is None
    assert views.iou > 0.9


@pytest.mark.parametrize("refine", [True, False])
def test_a_turned_person_is_like_the_truth(model, texture, view, refine):
    truth_view = photographed(model, texture, turned(model, 25))
    # turned() turns about the model's own axis, which lies a little beside the middle of the body's box
    views = NewViews(view, model, surface=refine, refine=refine)
    truth = np.where(truth_view.mask[..., None], truth_view.image, np.uint8(255))
    box = box_of(truth_view.mask)
    still = np.where(view.mask[..., None], view.image, np.uint8(255))
    scores = {yaw: psnr_db(views.over(np.full_like(truth, 255), yaw)[box], truth[box]) for yaw in (25, -25)}
    sign = max(scores, key=lambda yaw: scores[yaw])
    assert scores[sign] > psnr_db(still[box], truth[box]) + 1.5
    assert scores[sign] > scores[-sign] + 1.5


def test_without_a_network_splat_and_surface_are_mixed(model, view):
    layers = NewViews(view, model, refine=False).layers(20)
    drawn = completed(layers, None)
    inner = cv2.erode((layers.avatar[..., 3] == 1).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    splat, avatar = layers.splat[inner], layers.avatar[inner]
    assert (splat[:, 3] > 0.9).mean() > 0.5
    mean = splat[:, :3] / 2 + (1 - splat[:, 3:4] / 2) * avatar[:, :3]
    np.testing.assert_allclose(drawn[inner], np.concatenate([mean, np.ones((len(mean), 1))], 1), atol=1e-4)


def test_a_background_is_filled_where_the_person_was(view):
    plain = np.full((60, 80, 3), (20, 90, 160), np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    picture = np.where(mask[..., None], np.uint8(255), plain)
    filled = without_person(picture, mask)
    assert np.abs(filled.astype(int) - plain).max() <= 2
    noise = np.random.default_rng(0).integers(0, 255, picture.shape).astype(np.uint8)
    far = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    np.testing.assert_array_equal(without_person(noise, mask)[far], noise[far])
    np.testing.assert_array_equal(without_person(noise, np.zeros_like(mask)), noise)


def test_films_go_there_and_back():
    path = Angles((-60, 60), (0, 10)).path(8)
    assert len(path) == 8
    assert path[0] == pytest.approx((-60, 10))
    assert path[4] == pytest.approx((60, 0))
    yaws = [yaw for yaw, _ in path]
    np.testing.assert_allclose(yaws[1:4], yaws[:4:-1], atol=1e-9)
    assert Angles((30, 30)).path(8) == [(30, 0.0)]


def test_errors_say_what_is_wrong(model, view):
    with pytest.raises(OptionError, match="mask"):
        NewViews(replace(view, mask=np.zeros_like(view.mask)), model)
    with pytest.raises(OptionError, match="most_px"):
        NewViews(view, model, most_px=100)
    near = model.params(**dict(view.params) | {"transl": view.params.transl - torch.tensor([[0.0, 0, 2.4]])})
    with pytest.raises(OptionError, match="close"):
        NewViews(replace(view, params=near), model)
    with pytest.raises(OptionError, match="pitch"):
        NewViews(view, model).draw(0, 80)


@pytest.fixture(scope="module")
def results(tmp_path_factory, model, view):
    """A photograph of the painted person, its mask, and the result of its fit."""
    folder = tmp_path_factory.mktemp("turn")
    save_picture(folder / "ann.png", view.image)
    (folder / "masks").mkdir()
    Image.fromarray(255 * view.mask.astype(np.uint8)).save(folder / "masks" / "ann.png")
    (folder / "out" / "ann").mkdir(parents=True)
    save(fit_of(model, view), folder / "out" / "ann" / "person0.npz")
    return folder


def fit_of(model, view, status=FitStatus.CONVERGED):
    """The result of a fit that found the body of a view."""
    reason = None if status.ok and status is not FitStatus.POOR else "limbs that cannot bend so"
    return replace(fitted(model, view.params), status=(status,), reason=(reason,))


def run_turn(results, *words):
    person = results / "out" / "ann" / "person0.npz"
    return main(
        ["turn", str(person), "--photo", str(results / "ann.png"), "--masks", str(results / "masks"), *map(str, words)]
    )


def test_the_command_writes_films_pictures_and_frames(results, tmp_path, capsys):
    assert run_turn(results, "--yaw", "-20:20", "--frames", 4, "-o", tmp_path / "a.webp", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["status"] == "ok"
    assert facts["frames"] == 4
    with Image.open(tmp_path / "a.webp") as film:
        assert film.n_frames == 4
        assert film.size == (160, 200)
    assert run_turn(results, "--yaw", "-10:10", "--frames", 2, "-o", tmp_path / "a.mp4") == 0
    assert (tmp_path / "a.mp4").stat().st_size > 500
    assert run_turn(results, "--yaw", 30, "--background", "#00ff00", "-o", tmp_path / "a.png") == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png"))[0, 0], (0, 255, 0))
    assert run_turn(results, "--yaw", "0:10", "--frames", 2, "--no-refine", "-o", tmp_path / "frames") == 0
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == ["turn000.png", "turn001.png"]
    assert not capsys.readouterr().err


def test_without_a_background_pictures_are_transparent(results, view, tmp_path, capsys):
    words = ("--yaw", "0:2", "--frames", 2, "--background", "none", "-o")
    assert run_turn(results, *words, tmp_path / "frames") == 0
    assert run_turn(results, *words, tmp_path / "a.webp") == 0
    assert not capsys.readouterr().err
    with Image.open(tmp_path / "frames" / "turn000.png") as frame, Image.open(tmp_path / "a.webp") as film:
        assert frame.mode == film.mode == "RGBA"
        assert frame.size == film.size == (160, 200)
        picture = np.asarray(frame)
    assert picture[0, 0, 3] == 0
    inner = cv2.erode(view.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert np.median(picture[..., 3][inner]) > 250
    assert np.median(np.abs(picture[..., :3].astype(int) - view.image)[inner]) < 12  # not premultiplied
    assert run_turn(results, *words, tmp_path / "a.mp4") == 0
    assert ".mp4 has no transparency" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--yaw", "left", "-o", "a.mp4"), "--yaw must be degrees"),
        (("--yaw", "nan", "-o", "a.mp4"), "--yaw must lie"),
        (("--pitch", "0:80", "-o", "a.mp4"), "--pitch must lie within -60 and 60"),
        (("--yaw", "0:10", "-o", "a.png"), "one picture"),
        (("-o", "a.avi"), "films end in"),
        (("--background", "blue", "-o", "a.mp4"), "--background must be"),
    ],
)
def test_mistakes_end_in_one_line(results, capsys, tmp_path, words, message):
    words = [str(tmp_path / word) if word.startswith("a.") else word for word in words]
    assert run_turn(results, *words) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_poor_fit_is_called_poor(results, model, view, tmp_path, capsys):
    away = model.params(**dict(view.params) | {"transl": view.params.transl + torch.tensor([[0.05, 0, 0]])})
    save(fit_of(model, replace(view, params=away), FitStatus.POOR), results / "out" / "ann" / "person0.npz")
    code = run_turn(results, "--yaw", 10, "-o", tmp_path / "a.png")
    save(fit_of(model, view), results / "out" / "ann" / "person0.npz")
    assert code == 1
    assert "poor" in capsys.readouterr().err


def test_without_a_mask_nobody_is_turned(results, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((200, 160), np.uint8)).save(tmp_path / "masks" / "ann.png")
    person = results / "out" / "ann" / "person0.npz"
    words = ["--photo", str(results / "ann.png"), "--masks", str(tmp_path / "masks"), "-o", str(tmp_path / "a.png")]
    assert main(["turn", str(person), *words]) == 2
    assert "mask" in capsys.readouterr().err


def test_views_are_compared_by_their_names(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("drawn", "truth"):
        (tmp_path / name).mkdir()
    truth = cv2.GaussianBlur(rng.integers(0, 255, (40, 30, 3)).astype(np.uint8), (0, 0), 2)
    save_picture(tmp_path / "truth" / "a.png", truth)
    save_picture(tmp_path / "drawn" / "a.png", truth)
    off = np.clip(truth.astype(int) + np.where(rng.random(truth.shape) < 0.5, 10, -10), 0, 255).astype(np.uint8)
    save_picture(tmp_path / "truth" / "b.png", truth)
    save_picture(tmp_path / "drawn" / "b.png", off)
    save_picture(tmp_path / "drawn" / "alone.png", truth)
    rgba = np.concatenate([truth, np.zeros((40, 30, 1), np.uint8)], 2)
    rgba[5:25, 5:20, 3] = 255  # only this box counts
    Image.fromarray(rgba).save(tmp_path / "truth" / "c.png")
    other = np.full((40, 30, 3), 255, np.uint8)
    other[5:25, 5:20] = truth[5:25, 5:20]
    other[30:] = 0
    save_picture(tmp_path / "drawn" / "c.png", other)
    scores, alone = compare_views(tmp_path / "drawn", tmp_path / "truth")
    a, b, c = scores
    assert alone == ["alone"]
    assert (a.psnr_db, a.perceptual) == (99.0, 0.0)
    assert a.ssim == pytest.approx(1)
    assert b.psnr_db == pytest.approx(20 * np.log10(255 / 10), abs=0.1)
    assert b.perceptual > 1e-3
    assert c.psnr_db == 99.0
    assert main(["eval", "views", str(tmp_path / "drawn"), str(tmp_path / "truth"), "--json"]) == 1  # one is alone
    assert json.loads(capsys.readouterr().out)["means"]["ssim"] > 0.5
    save_picture(tmp_path / "drawn" / "a.png", truth[1:])
    with pytest.raises(ImageError, match="30x39"):
        compare_views(tmp_path / "drawn", tmp_path / "truth")
    with pytest.raises(OptionError, match="no picture of one name"):
        compare_views(tmp_path / "drawn", tmp_path)
    assert main(["eval", "views", str(tmp_path / "drawn")]) == 2
    assert "two folders" in capsys.readouterr().err


def test_the_perceptual_distance_grows_with_noise(view):
    measure, rng = Perceptual(), np.random.default_rng(1)
    noise = rng.standard_normal(view.image.shape)
    pictures = [np.clip(view.image + s * noise, 0, 255).astype(np.uint8) for s in (0, 8, 40)]
    distances = [measure.distance(picture, view.image) for picture in pictures]
    assert distances[0] == 0 < distances[1] < distances[2]


def test_webps_are_checked(tmp_path):
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 2
    for name, some, fps in (("a.gif", pictures, 10.0), ("a.webp", [], 10.0), ("a.webp", pictures, 0.0)):
        with pytest.raises(OptionError):
            save_webp(tmp_path / name, some, fps=fps)
