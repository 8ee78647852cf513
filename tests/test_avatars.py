"""Textured avatars: surfaces moved out by masks, colours baked, what is not seen, files, the command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gltf_reader import Gltf

import bodyfit
from bodyfit.app.avatars.drawn import avatar_paint, avatar_vertices, draw_view, score_avatar, truth_of
from bodyfit.app.avatars.views import gather_views
from bodyfit.app.results.find import find_results
from bodyfit.avatars import AvatarView, make_avatar
from bodyfit.avatars.avatar import moved_model
from bodyfit.avatars.contour import match_outlines
from bodyfit.avatars.exposure import solve_gains
from bodyfit.avatars.light import even_light, linear, shade
from bodyfit.avatars.posed import posed_views, rest_surface
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.io import VideoWriter, save_picture
from bodyfit.io.results.avatar import load_avatar, save_avatar
from bodyfit.io.results.params import save
from bodyfit.io.results.track import save_track
from bodyfit.render import Texture, render_bodies, studio

SIZE = (160, 200)
FOCAL = 260.0
OUT_M = 0.02
"""How far the clothes of the painted person are off the skin."""


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


def painted(model, size=256):
    """A texture of smooth colours on the body's surface, a different one on either side of the body."""
    rest = model.v_template.numpy()
    uv, faces, uv_faces = np.asarray(model.uv), model.faces.numpy(), np.asarray(model.uv_faces)
    value = 0.5 + 0.4 * np.sin(rest @ np.array([[4.0, 0, 3], [5, 6, 0], [0, 3, 5]]))
    from bodyfit.register.surface.colors import padded, texels_of

    face, mix = texels_of(uv, uv_faces, size)
    inside = face >= 0
    return padded(np.einsum("mk,mkc->mc", mix[inside], value[faces[face[inside]]]), inside)


def turned(model, yaw_deg):
    """A standing body with arms and legs apart, before a camera at the origin, turned about the vertical."""
    half = np.radians(yaw_deg) / 2
    # Half a turn about x makes the body upright in camera axes; the turn about the vertical goes before it.
    w, x, y, z = 0.0, np.cos(half), 0.0, np.sin(half)
    angle = 2 * np.arccos(np.clip(w, -1, 1))
    axis = np.array([x, y, z]) / np.linalg.norm([x, y, z])
    pose = torch.zeros(1, 69)
    names = model.skeleton.names
    for name, value in (("left_hip", 0.25), ("right_hip", -0.25), ("left_shoulder", -0.7), ("right_shoulder", 0.7)):
        pose[0, 3 * (names.index(name) - 1) + 2] = value
    orient = torch.from_numpy(angle * axis[None]).float()
    transl = torch.tensor([[0.0, -0.25, 3.0]])
    return model.params(global_orient=orient, body_pose=pose, transl=transl)


def photographed(model, texture, params, *, gain=1.0, light=None):
    """A view of the painted person; light: of the vertices."""
    width, height = SIZE
    camera = bodyfit.Camera.make(1, SIZE, focal_px=FOCAL)
    with torch.no_grad():
        vertices = model(**params).vertices[0]
    layer = render_bodies(
        [(vertices, Texture(texture, model.uv, model.uv_faces, lit=False, light=light))],
        model.faces,
        camera,
        shadows=False,
    )
    picture, alpha = np.zeros((height, width, 3)), np.zeros((height, width))
    picture[:] = (1.0, 0.0, 1.0)
    layer.over(picture)
    (x, y), (h, w) = layer.corner_px, layer.rgba.shape[:2]
    alpha[y : y + h, x : x + w] = layer.rgba[..., 3]
    K = np.array([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]])
    image = np.clip(np.round(255 * gain * picture), 0, 255).astype(np.uint8)
    return AvatarView(image, alpha >= 0.5, CalibratedCamera(K=K, R=np.eye(3), t=np.zeros(3)), params)


@pytest.fixture(scope="module")
def person(model):
    """The painted person: a surface off the skin, but for hands, and its texture."""
    _, normals = rest_surface(model, turned(model, 0))
    hands = np.array(["wrist" in n or "hand" in n for n in model.skeleton.names])
    out = OUT_M * (1 - (model.weights.numpy() @ hands)[:, None]) * normals
    return moved_model(model, out.astype(np.float32)), painted(model)


@pytest.fixture(scope="module")
def views(model, person):
    return [photographed(*person, turned(model, yaw)) for yaw in range(0, 360, 30)]


@pytest.fixture(scope="module")
def avatar(model, views):
    return make_avatar(views, model=model, size=256, exact=True)


@pytest.fixture(scope="module")
def small(model, views):
    return make_avatar(views, model=model, size=128, exact=True)


def test_a_person_seen_all_round_is_drawn_again(model, person, avatar, views):
    held_out = [photographed(*person, turned(model, yaw)) for yaw in (45, 105, 195)]
    score = score_avatar(avatar, held_out)
    assert score.pictures == 3
    assert score.psnr_db > 24
    assert score.ssim > 0.9
    naked = replace(avatar, offsets_m=np.zeros_like(avatar.offsets_m))
    assert score_avatar(naked, held_out).psnr_db < score.psnr_db - 2  # the clothes are off the skin
    assert avatar.status == "ok"
    assert score_avatar(avatar, []) is None


def test_the_surface_goes_out_to_the_masks(model, avatar):
    rest, normals = rest_surface(model, turned(model, 0))
    distance = (avatar.offsets_m * normals).sum(1)
    trunk = np.isin(model.weights.argmax(1).numpy(), [model.skeleton.index(n) for n in ("spine1", "spine2")])
    # A pixel is 12 mm wide, and the mask is the pixel's half.
    assert abs(np.median(distance[trunk]) - OUT_M) < 0.006
    assert np.abs(distance).max() < 0.061
    assert rest.shape == avatar.offsets_m.shape


def test_gains_of_pictures_are_found_and_taken_out(model, person, views, small):
    gains = [1.15 if k % 2 else 0.87 for k in range(len(views))]
    uneven = [photographed(*person, view.params, gain=g) for view, g in zip(views, gains, strict=True)]
    even = make_avatar(uneven, model=model, size=128, exact=True)
    plain = make_avatar(uneven, model=model, size=128, exact=True, even_light=False)
    well = small.confidence > 200
    off = [np.abs(one.texture[well].astype(float) - small.texture[well]).mean() for one in (even, plain)]
    assert off[0] < 0.6 * off[1]


def test_light_that_stands_in_the_room_is_found_and_taken_out(model, person, views, small):
    """A light from the camera's left: the person is drawn better in it, and the texture is as without it."""
    truth = even_light()
    truth[1] = 0.25, 0.2, 0.15

    def lit(view: AvatarView) -> AvatarView:
        with torch.no_grad():
            normals = vertex_normals(person[0](**view.params).vertices[0].numpy(), model.faces.numpy())
        return photographed(*person, view.params, light=linear(shade(truth, normals)))

    pictures = [lit(view) for view in views]
    held_out = [lit(photographed(*person, turned(model, yaw))) for yaw in (45, 195)]
    found, within = (make_avatar(pictures, model=model, size=128, exact=True, room_light=on) for on in (True, False))
    assert within.light is None
    assert np.abs(found.light[1] / found.light[0] - truth[1]).max() < 0.06
    assert np.abs(np.delete(found.light, [0, 1], 0)).max() < 0.08
    assert score_avatar(found, held_out).psnr_db > score_avatar(within, held_out).psnr_db + 0.5
    well = small.confidence > 200
    off = [np.abs(one.texture[well].astype(float) - small.texture[well]).mean() for one in (found, within)]
    assert off[0] < off[1]


def test_outlines_are_brought_to_the_masks(model, views):
    """From a surface that is a centimetre too far in or out, and of wrong views nothing is learned."""
    rest, normals = rest_surface(model, views[0].params)
    posed, faces = list(posed_views(views, model, normals)), model.faces.numpy()
    limits = np.array([[-0.012, 0.06]]).repeat(len(rest), 0)
    trunk = np.isin(model.weights.argmax(1).numpy(), [model.skeleton.index(n) for n in ("spine1", "spine2")])
    for start in (OUT_M - 0.01, OUT_M + 0.01):
        begin = np.full(len(rest), start)
        found = match_outlines(posed, begin, rest, faces, limits, exact=True)
        assert abs(np.median(found[trunk]) - OUT_M) < 0.003
    far = np.full(len(rest), OUT_M + 0.06)
    wrong = match_outlines(posed, far, rest, faces, limits + 0.06, exact=True)
    assert np.abs(wrong - far).mean() < 0.01


def test_solved_gains_are_those_that_colours_were_multiplied_by():
    rng = np.random.default_rng(0)
    places, truth = rng.uniform(0.2, 0.6, (400, 3)), np.array([[1.1, 1.0, 0.9], [0.95, 1.05, 1.0], [1.0, 0.95, 1.1]])
    colors = truth[:, None] * places
    weights = rng.uniform(0, 1, (3, 400)) * (rng.random((3, 400)) < 0.6)
    colors[0, :40] = rng.uniform(0.1, 0.9, (40, 3))  # cloth that moved
    found = solve_gains(colors.astype(np.float32), weights.astype(np.float32))
    assert np.abs(found / found.mean(0) - truth / truth.mean(0)).max() < 0.02


def test_what_no_picture_shows_is_mirrored_then_an_average(model, person):
    """Of the left side alone: the right side has its colours, and less confidence; the background's are nowhere."""
    one = make_avatar([photographed(*person, turned(model, 90))], model=model, size=256, exact=True)
    uv, uv_faces = np.asarray(model.uv), np.asarray(model.uv_faces)
    middle = uv[uv_faces].mean(1)
    column, row = np.clip((middle * [1, -1] + [0, 1]) * 256, 0, 255).astype(int).T
    color, sure = one.texture[row, column] / 255, one.confidence[row, column]
    place = model.v_template.numpy()[model.faces.numpy()].mean(1)
    sides = [(sign * place[:, 0] > 0.06) & (place[:, 1] < -0.4) & (place[:, 1] > -0.9) for sign in (1, -1)]
    median = [np.median(color[side], 0) for side in sides]
    assert np.abs(median[0] - median[1]).max() < 0.08
    high, low = sorted((np.quantile(sure[side], 0.9) for side in sides), reverse=True)
    assert high > 250
    assert 100 < low < 140
    magenta = (one.texture[..., 0] > 200) & (one.texture[..., 1] < 60) & (one.texture[..., 2] > 200)
    assert magenta.mean() < 0.005
    assert one.confidence.min() == 0


def test_bodies_that_disagree_with_masks_are_poor(model, views):
    shifted = [replace(v, params=model.params(**dict(v.params) | {"transl": v.params.transl + 0.2})) for v in views[:2]]
    poor = make_avatar(shifted, model=model, size=64)
    assert poor.status == "poor"
    assert "disagree" in poor.reason


def test_an_avatar_reads_back_and_poses_as_it_did(tmp_path, model, avatar):
    save_avatar(avatar, tmp_path / "a.npz")
    again = load_avatar(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.texture, avatar.texture)
    np.testing.assert_array_equal(again.confidence, avatar.confidence)
    np.testing.assert_array_equal(again.light, avatar.light)
    other = bodyfit.random_bodies(2, model=model, seed=3)
    torch.testing.assert_close(avatar_vertices(again, other), avatar_vertices(avatar, other))
    joints = again.model(**again.posed(other)).joints
    torch.testing.assert_close(
        joints, model(**model.params(**dict(other) | {"betas": avatar.betas.expand(2, -1)})).joints
    )
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-300])
    with pytest.raises(AssetError, match=r"b\.npz"):
        load_avatar(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    with pytest.raises(AssetError, match="not an avatar"):
        load_avatar(tmp_path / "c.npz")


def test_its_own_light_stays(avatar):
    """A white avatar is white in the studio, a white body is shaded."""
    white = replace(avatar, texture=np.full_like(avatar.texture, 255))
    paint, vertices = avatar_paint(white), avatar_vertices(white, white.params.select([0]))[0]
    lit = replace(paint, lit=True)
    pictures = [studio([(vertices, p)], white.model.faces, view="front", size=(90, 120)) for p in (paint, lit)]
    middle = [picture[46:54, 43:47].astype(int) for picture in pictures]
    assert middle[0].min() == 255
    assert middle[1].mean() < 240


def test_bad_views_have_a_clear_word(model, views):
    view = views[0]
    with pytest.raises(OptionError, match="at least one view"):
        make_avatar([], model=model)
    with pytest.raises(OptionError, match="mask of view 1 is empty"):
        make_avatar([view, replace(view, mask=np.zeros_like(view.mask))], model=model)
    other = model.params(**dict(view.params) | {"betas": torch.ones(1, 10)})
    with pytest.raises(OptionError, match="one shape"):
        make_avatar([view, replace(view, params=other)], model=model)
    with pytest.raises(OptionError, match="size"):
        make_avatar([view], model=model, size=3)


def test_pictures_are_compared_as_defined():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (40, 30, 3)).astype(np.uint8)
    assert psnr_db(a, a) == np.inf
    assert ssim(a, a) == pytest.approx(1)
    assert psnr_db(np.zeros_like(a), np.full_like(a, 255)) == 0
    noisy = np.clip(a + rng.normal(0, 40, a.shape), 0, 255).astype(np.uint8)
    assert 0.3 < ssim(noisy, a) < 0.95
    flat = np.full_like(a, 100)
    # Of constants x and y the index is (2 x y + C1) / (x^2 + y^2 + C1).
    x, y = 100 / 255, 120 / 255
    assert ssim(flat, flat + 20) == pytest.approx((2 * x * y + 1e-4) / (x * x + y * y + 1e-4))
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    assert box_of(mask) == (slice(1, 3), slice(2, 5))


def fitted(model, params):
    """The result of a fit that found bodies exactly."""
    n = params.batch
    camera = bodyfit.Camera.make(n, SIZE, focal_px=FOCAL)
    with torch.no_grad():
        out = model(**params)
        points = torch.nan_to_num(model.keypoints(params, "coco17"))
    xyc = torch.cat([camera.project(points), torch.ones(n, 17, 1)], 2)
    zeros = torch.zeros(n)
    return FitResult(
        params=params,
        camera=camera,
        joints=out.joints,
        status=(FitStatus.CONVERGED,) * n,
        objective=zeros,
        reprojection_error_px=zeros,
        layout="coco17",
        keypoints=xyc,
        model_name="open",
        gender="neutral",
        iterations=torch.zeros(n, dtype=torch.long),
        flipped=torch.zeros(n, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory, model, person):
    """A film of the painted person turning, the track of the exact bodies, and masks of the frames."""
    folder = tmp_path_factory.mktemp("clip")
    bodies = [turned(model, yaw) for yaw in range(0, 360, 30)]
    shots = [photographed(*person, one) for one in bodies]
    with VideoWriter(folder / "film.mp4", SIZE, 10.0, crf=8) as film:
        for shot in shots:
            film.write(shot.image)
    (folder / "masks").mkdir()
    for k, shot in enumerate(shots):
        save_picture(folder / "masks" / f"{k:06d}.png", np.repeat(255 * shot.mask[..., None].astype(np.uint8), 3, 2))
    params = bodyfit.BodyParams(**{name: torch.cat([one[name] for one in bodies]) for name in bodies[0]})
    n = len(bodies)
    result = fitted(model, params)
    save_track(Track(0, np.arange(n), np.arange(n) / 10, 10.0, np.ones(n, bool), result), folder / "person0.npz")
    return folder


def test_a_clip_makes_an_avatar_that_plays_its_motion(clip, tmp_path, capsys, model):
    command = ["avatar", str(clip / "person0.npz"), "--video", str(clip / "film.mp4"), "--masks", str(clip / "masks")]
    assert main([*command, "-o", str(tmp_path / "out"), "--size", "128"]) == 0
    said = capsys.readouterr().out
    assert "dB" in said
    assert "2 pictures held out" in said
    facts = json.loads((tmp_path / "out" / "avatar.json").read_text())
    assert facts["pictures"] == 10
    assert facts["score"]["psnr_db"] > 16  # the film has spread the background's pink over edges of 12 mm pixels
    assert all((tmp_path / "out" / name).stat().st_size > 0 for name in facts["files"])
    made = load_avatar(tmp_path / "out" / "avatar.npz")
    gltf = Gltf(tmp_path / "out" / "avatar.glb")
    assert gltf.joint_names == list(model.skeleton.names)
    assert len(gltf.times()) == 12
    assert gltf.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] == {"index": 0}
    assert "TEXCOORD_0" in gltf.primitive["attributes"]
    for frame in (0, 7):
        posed = gltf.posed(frame)[0]
        truth = avatar_vertices(made, made.posed(load_params(clip)).select([frame]))[0].numpy() * [1, -1, -1]
        # Four weights a vertex and no pose shapes: millimetres.
        assert np.quantile(np.linalg.norm(posed[: len(truth)] - truth, axis=1), 0.95) < 0.012


def load_params(clip):
    return bodyfit.load_track(clip / "person0.npz").result.params


def test_an_avatar_plays_any_motion_file(tmp_path, model, avatar, capsys):
    save_avatar(avatar, tmp_path / "avatar.npz")
    poses = np.zeros((4, 72))
    poses[:, 3 * model.skeleton.index("left_shoulder") + 2] = np.linspace(0, -1, 4)
    fields = {"poses": poses, "trans": np.zeros((4, 3)), "betas": np.ones(10), "gender": "neutral"}
    np.savez(tmp_path / "wave.npz", **fields, mocap_framerate=10.0)
    command = ["avatar", str(tmp_path / "avatar.npz"), "--motion", str(tmp_path / "wave.npz")]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    assert len(Gltf(tmp_path / "out" / "motion.glb").times()) == 4
    assert (tmp_path / "out" / "motion.mp4").stat().st_size > 0
    assert main(["avatar", str(tmp_path / "avatar.npz"), "-o", str(tmp_path / "out")]) == 2
    assert "--motion" in capsys.readouterr().err


def test_bystanders_are_not_mixed_in(clip, tmp_path, model):
    """Of masks on which less than 60 % of the body lies no picture is used; of frames with good ones these alone."""
    from shutil import copytree

    folder = tmp_path / "masks"
    copytree(clip / "masks", folder)
    for k in range(4):
        mask = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        mask[:, : SIZE[0] // 3] = 255
        save_picture(folder / f"{k:06d}.png", mask)
    found = find_results([clip / "person0.npz"], clip / "film.mp4")
    material = gather_views(found, detector=None, masks=folder)
    assert len(material.views) + len(material.test_views) == 8
    assert "4 pictures with" in material.notes[0]
    assert not set(material.names) & {f"frame {k}" for k in range(4)}


def test_what_cannot_be_used_has_a_clear_word(clip, tmp_path, model, person, capsys):
    film, masks = ["--video", str(clip / "film.mp4")], ["--masks", str(clip / "masks")]
    out = ["-o", str(tmp_path / "out")]
    assert main(["avatar", str(tmp_path / "none.npz"), *film, *masks, *out]) == 2
    assert "none.npz" in capsys.readouterr().err
    with VideoWriter(tmp_path / "short.mp4", SIZE, 10.0) as short:
        short.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    assert main(["avatar", str(clip / "person0.npz"), "--video", str(tmp_path / "short.mp4"), *masks, *out]) == 2
    assert "ends with frame" in capsys.readouterr().err
    with VideoWriter(tmp_path / "other.mp4", (64, 64), 10.0) as other:
        other.write(np.zeros((64, 64, 3), np.uint8))
    assert main(["avatar", str(clip / "person0.npz"), "--video", str(tmp_path / "other.mp4"), *masks, *out]) == 2
    assert "64x64" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    for k in range(12):
        save_picture(tmp_path / "empty" / f"{k:06d}.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    assert main(["avatar", str(clip / "person0.npz"), *film, "--masks", str(tmp_path / "empty"), *out]) == 2
    assert "without a mask" in capsys.readouterr().err
    (tmp_path / "two").mkdir()
    for k in range(2):
        save(fitted(model, turned(model, 30 * k)), tmp_path / "two" / f"person{k}.npz")
    assert main(["avatar", str(tmp_path / "two"), *masks, *out]) == 2
    assert "2 people" in capsys.readouterr().err


def test_photographs_of_two_fits_have_their_mean_shape(tmp_path, model, person):
    bodies = [turned(model, 0), turned(model, 180)]
    for k, one in enumerate(bodies):
        betas = torch.zeros(1, 10)
        betas[0, 0] = 0.4 * (-1) ** k
        folder = tmp_path / f"photo{k}"
        folder.mkdir()
        (tmp_path / "pictures").mkdir(exist_ok=True)
        save(fitted(model, model.params(**dict(one) | {"betas": betas})), folder / "person0.npz")
        shot = photographed(*person, one)
        save_picture(tmp_path / "pictures" / f"photo{k}.png", shot.image)
        (tmp_path / "masks").mkdir(exist_ok=True)
        save_picture(tmp_path / "masks" / f"photo{k}.png", np.repeat(255 * shot.mask[..., None].astype(np.uint8), 3, 2))
    found = find_results([tmp_path / "photo0", tmp_path / "photo1"], tmp_path / "pictures")
    material = gather_views(found, detector=None, masks=tmp_path / "masks")
    assert len(material.views) == 2
    assert material.test_views == ()
    assert material.motion.betas.abs().max() < 1e-6
    made = make_avatar(material.views, model=material.model, size=128)
    assert made.iou.min() > 0.7  # clothes of 2 cm on limbs of 10
    drawn, truth = draw_view(made, material.views[0]), truth_of(material.views[0])
    assert psnr_db(drawn, truth) > 18


def test_results_are_drawn_and_shown_as_an_avatar(clip, tmp_path, avatar):
    save_avatar(avatar, tmp_path / "avatar.npz")
    command = ["render", str(clip / "person0.npz"), "--photo", str(clip / "film.mp4"), "-o", str(tmp_path / "film.mp4")]
    assert main([*command, "--avatar", str(tmp_path / "avatar.npz")]) == 0
    assert (tmp_path / "film.mp4").stat().st_size > 0
    from bodyfit.app.results.folder import read_results
    from bodyfit.viewer.server import Viewer

    viewer = Viewer(read_results(clip / "person0.npz"), avatar=avatar)
    try:
        viewer.go_to(3)
        expected = avatar_vertices(avatar, load_params(clip).select([3]))[0].numpy()
        np.testing.assert_allclose(viewer.meshes[0].vertices, expected, atol=1e-5)
        viewer.edits[0].visible = False
        viewer.redraw()
        assert not viewer.meshes[0].visible
    finally:
        viewer.stop()
