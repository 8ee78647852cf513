"""Scenes: the same from the same seed, people apart and on the floor, and labels that agree with the pictures."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import KDTree

from bodyfit.app.batch.pool import Failure
from bodyfit.appearance.dress import dress
from bodyfit.body.model import load_model
from bodyfit.body.params import BodyParams
from bodyfit.body.sample import random_bodies
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, BodyfitError, OptionError
from bodyfit.evaluate import Wanted, compare, joint_set, load_subject, read_scenes
from bodyfit.geometry.lens import RadialLens
from bodyfit.geometry.rotation import so3_exp
from bodyfit.io import VideoReader, load_amass
from bodyfit.io.png import png_bytes
from bodyfit.render.environment import EnvironmentLight
from bodyfit.render.light import sky_directions
from bodyfit.scenes import (
    LABELS,
    ClipConfig,
    SceneConfig,
    SceneDataset,
    draw_scene,
    sample_clip,
    sample_scene,
    write_clips,
    write_scenes,
)
from bodyfit.scenes.clips.motion import motion_files, moving
from bodyfit.scenes.draw import Place
from bodyfit.scenes.feet import CONTACT_M
from bodyfit.scenes.ground import FloorView
from bodyfit.scenes.labels import body_arrays, coco_records, keypoint_arrays, run_lengths
from bodyfit.scenes.lighting import scene_light
from bodyfit.scenes.placing import place_people, turned
from bodyfit.scenes.sample import scene_model
from bodyfit.scenes.store.one import scene_files
from bodyfit.scenes.store.ray_engine import scene_ray_engine
from bodyfit.scenes.things import Thing
from bodyfit.skeleton import layout_names

CONFIG = SceneConfig(people=(2, 3), size=96)
CLIP = ClipConfig(seconds=0.5, fps=10.0)


@pytest.fixture(scope="module")
def scene():
    return sample_scene(CONFIG, 5, 1)


@pytest.fixture(scope="module")
def drawing(scene):
    return draw_scene(scene, CONFIG.model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(CONFIG, 2, out, seed=5, labels=(*LABELS, "depth_npy"), keypoints=("openpose25", "smpl24"))
    return out


def mesh(person) -> torch.Tensor:
    with torch.no_grad():
        return scene_model(CONFIG.model, person.gender)(**person.params).vertices[0]


def test_people_stand_apart_on_the_floor(scene):
    for person in scene.people:
        dressed = dress(person.params, model=scene_model(CONFIG.model, person.gender), outfit=person.outfit)[0]
        lowest = [float(one.vertices[:, 1].min()) for one in dressed.surfaces() if one.kind in ("skin", "shoes")]
        assert min(lowest) == pytest.approx(0, abs=1e-4)
        assert lowest[0] == pytest.approx(person.sole_m, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_people_never_pass_through_each_other(seed):
    """Exactly: no vertex of one is inside another's closed skin, nor near it, however close they stand."""
    rng = np.random.default_rng(seed)
    model = scene_model("open", "male")
    params = random_bodies(4, model=model, seed=seed, floor=True)
    with torch.no_grad():
        bodies = list(model(**params).vertices.double().numpy())
    places, yaws = place_people(bodies, rng)
    moved = [turned(*each) for each in zip(bodies, places, yaws, strict=True)]
    for i, a in enumerate(moved):
        for b in moved[:i]:
            nearest, _ = KDTree(a).query(b)
            assert nearest.min() > 0.03
            inside = np.zeros(len(b), bool)
            low, high = a.min(0), a.max(0)
            candidates = np.flatnonzero(np.all((b > low) & (b < high), axis=1))[::97]
            inside[candidates] = winding(a, model.faces.numpy(), b[candidates]) > 0.5
            assert not inside.any()


def winding(points, faces, queries):
    """How often a closed mesh winds about points: 1 inside, 0 outside (Van Oosterom and Strackee 1983)."""
    out = []
    for query in queries:
        a, b, c = np.moveaxis((points - query)[faces], 1, 0)
        la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
        triple = (a * np.cross(b, c)).sum(1)
        below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        out.append(np.arctan2(triple, below).sum() / (2 * np.pi))
    return np.array(out)


def test_things_touch_nobody_and_hide_what_is_behind_them():
    config = SceneConfig(people=(1, 2), size=96, things=1.0)
    kinds = set()
    for i in range(8):
        scene = sample_scene(config, 3, i)
        kinds |= {(thing.kind, thing.holder >= 0) for thing in scene.things}
        for thing in scene.things:
            for number, person in enumerate(scene.people):
                distance = thing.distance(mesh(person).double().numpy())
                assert distance.min() > (-0.005 if number == thing.holder else 0.02)
            assert thing.holder >= 0 or thing.middle_m[1] == pytest.approx(thing.half_m[1])
    assert {kind for kind, _ in kinds} == {"table", "box", "ball"}
    assert {held for _, held in kinds} == {True, False}


def test_a_hidden_keypoint_is_labelled_so(scene, drawing):
    """A wall before the camera hides everybody and leaves no visible keypoint."""
    R = scene.R_cam_world.double().numpy()
    wall = Thing("box", scene.eye_m + 0.5 * R[2], np.array([9.0, 9.0, 0.01]), R, (0.5, 0.5, 0.5), 1)
    hidden = draw_scene(replace(scene, things=(wall,)), CONFIG.model)
    assert (hidden.person == -1).all()
    np.testing.assert_allclose(hidden.depth_m, 0.49, atol=1e-3)
    before = keypoint_arrays(scene, drawing, CONFIG.model, ("wholebody133",))["wholebody133"]
    after = keypoint_arrays(scene, hidden, CONFIG.model, ("wholebody133",))["wholebody133"]
    np.testing.assert_array_equal(before[..., 2] > 0, after[..., 2] > 0)
    assert (before[..., 2] == 2).any()
    assert not (after[..., 2] == 2).any()
    assert coco_records(scene, hidden, CONFIG.model, 0) == []


def test_amodal_boxes_hold_the_whole_body(scene, drawing):
    for record in coco_records(scene, drawing, CONFIG.model, 0):
        x, y, w, h = record["amodal_bbox"]
        points = scene.camera.project(drawing.bodies_cam[record["person"]].double().numpy())
        np.testing.assert_allclose([*points.min(0), *points.max(0)], [x, y, x + w, y + h], atol=0.02)


def test_a_lens_bends_picture_and_labels_alike():
    config = SceneConfig(people=(1, 1), size=128, things=0, distortion=True)
    scene = sample_scene(config, 2, 0)
    lens = RadialLens(-0.25, 0.05, 1.5)
    bent = replace(scene, camera=replace(scene.camera, lens=lens, focal_px=90.0))
    straight = replace(scene, camera=replace(scene.camera, lens=None, focal_px=90.0))
    pictures = [draw_scene(one, config.model) for one in (bent, straight)]
    # The straight mask, looked up where each pixel's ray meets it, is the bent one, and so are normals and depth.
    rays = bent.camera.rays(128)
    at = (rays[..., :2] * 90.0 + 64).astype(np.float32) - 0.5
    mask = cv2.remap((pictures[1].person == 0).astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    own = pictures[0].person == 0
    assert own.sum() > 300
    wrong, unbent = (mask > 0.5) != own, (pictures[1].person == 0) != own
    assert wrong.sum() < 0.4 * unbent.sum()  # what is left is the outline's
    assert unbent.sum() > 100
    points = keypoint_arrays(bent, pictures[0], config.model, ("smpl24",))
    cam = points["smpl24_cam_m"][0].astype(np.float64)
    K = np.array([[90.0, 0, 64], [0, 90.0, 64], [0, 0, 1]])
    expected = cv2.projectPoints(cam, np.zeros(3), np.zeros(3), K, np.array([-0.25, 0.05, 0, 0]))[0][:, 0]
    near = np.hypot(*(cam[:, :2] / cam[:, 2:]).T) < 1.5
    np.testing.assert_allclose(points["smpl24"][0][near, :2], expected[near], atol=1e-2)


@pytest.mark.parametrize(("k1", "k2"), [(-0.2, 0.03), (0.05, 0.0), (0.0, 0.0)])
def test_rays_of_a_lens_come_back(k1, k2):
    lens = RadialLens(k1, k2, 1.2)
    rays = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2))  # also beyond the radius
    np.testing.assert_allclose(lens.rays(lens.distorted(rays)), rays, atol=1e-9)
    with pytest.raises(OptionError, match="folds"):
        RadialLens(-0.4, 0.0, 1.2)


def test_light_comes_from_where_the_background_is_bright(scene):
    """A bright left half lights surfaces that face left, in its colour."""
    behind = np.full((96, 96, 3), 0.1)
    behind[:, :48] = (0.9, 0.5, 0.3)
    light = scene_light(scene, behind)
    left, right = light.reflected(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert left.mean() > 1.5 * right.mean()
    assert left[0] > left[2]
    assert np.linalg.norm(light.towards) == pytest.approx(1)
    assert light.towards @ scene.R_cam_world[:, 1].double().numpy() > 0.25  # from above


def test_harmonics_give_the_irradiance_of_a_known_light():
    """Of radiance 1 + d_x: E / pi is 1 + 2/3 n_x."""
    directions = sky_directions(4000).astype(np.float64)
    radiance = np.repeat(1 + directions[:, :1], 3, 1)
    area = np.full(len(directions), 4 * np.pi / len(directions))
    light = EnvironmentLight.around(directions, radiance, area, towards=np.array([0, -1.0, 0]), color=np.zeros(3))
    normals = sky_directions(50).astype(np.float64)
    np.testing.assert_allclose(light.reflected(normals)[:, 0], 1 + 2 / 3 * normals[:, 0], atol=2e-3)
    turn = np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(light.turned(turn).reflected(normals @ turn.T), light.reflected(normals), atol=1e-9)


def test_the_command_draws_without_a_background(tmp_path, capsys):
    out = tmp_path / "data"
    options = ["--size", "64", "--things", "0", "--labels", "none"]
    assert main(["scene", "-n", "1", *options, "--background", "transparent", "-o", str(out)]) == 0
    data = SceneDataset(out, labels=())
    assert data[0]["image"].shape == (4, 64, 64)
    assert data[0]["distortion"].tolist() == [0] * 5
    for wrong, words in (
        (["--motions", "m"], "--motions is of --clips"),
        (["--clips", "--shard", "5"], "leave --shard and --engine out"),
        (["--address", "auto"], "--address is of --engine ray"),
        (["--background", "transparent", "--backgrounds", "p"], "give one of them"),
        (["--things", "2"], "0 to 1"),
    ):
        assert main(["scene", "-n", "1", *wrong, "-o", str(tmp_path / "other")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_transparent_background_leaves_people_alone(scene, drawing):
    cut = draw_scene(scene, CONFIG.model, transparent=True)
    assert cut.picture.shape == (96, 96, 4)
    np.testing.assert_array_equal(cut.person, drawing.person)
    alpha = cut.picture[..., 3]
    drawn = np.isfinite(cut.depth_m)
    assert alpha[drawn].min() > 100
    assert (alpha[cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5))) == 0] == 0).all()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    out = tmp_path_factory.mktemp("clips") / "data"
    write_clips(SceneConfig(people=(2, 2), size=64, things=0), CLIP, 1, out, seed=4, labels=("masks",))
    return out


def test_clips_have_labels_of_every_frame(clips):
    listed = json.loads((clips / "clips.json").read_text())
    assert listed[0]["frames"] == 5
    assert len(list(VideoReader(clips / "clips" / "000000.mp4"))) == 5
    with np.load(clips / "params" / "000000.npz") as archive:
        arrays = dict(archive)
    assert arrays["keypoints"].shape == (5, 2, 133, 3)
    assert arrays["poses"].shape == (5, 2, 165)
    for k in range(5):
        mask = np.asarray(Image.open(clips / "masks" / "000000" / f"{k:05d}.png"))
        for number, (x, y, w, h) in enumerate(arrays["bbox"][k]):
            rows, columns = np.nonzero(mask == number + 1)
            assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (x, y, w, h)
    # A body in the world, moved by the frame's camera, is the body in the camera.
    for number, gender in enumerate(arrays["gender"]):
        model = load_model("open-x", gender=str(gender))
        world, camera = (
            load_amass(clips / "amass" / f"000000_{number}_{axes}.npz", model) for axes in ("world", "camera")
        )
        assert world.fps == CLIP.fps
        for k in range(5):
            a, b = (
                model(**motion.params.select([k])).vertices[0].detach().double().numpy() for motion in (world, camera)
            )
            b = b * [1, -1, -1]  # y up, as models have it, to the camera's axes
            np.testing.assert_allclose(a @ arrays["R_cam_world"][k].T + arrays["t_cam_world_m"][k], b, atol=2e-4)
            if k == 0:
                assert a[:, 1].min() > -1e-3  # nobody goes through the floor


def test_clips_go_on_and_are_not_mixed(clips):
    before = {path: path.read_bytes() for path in clips.rglob("*") if path.is_file()}
    config = SceneConfig(people=(2, 2), size=64, things=0)
    with pytest.raises(OptionError, match="has clips or scenes already"):
        write_clips(config, CLIP, 1, clips, seed=4, labels=("masks",))
    (clips / "scenes" / "000000.json").unlink()
    write_clips(config, CLIP, 1, clips, seed=4, labels=("masks",), resume=True)
    assert {path: path.read_bytes() for path in clips.rglob("*") if path.is_file()} == before
    with pytest.raises(OptionError, match="no transparency"):
        write_clips(replace(config, transparent=True), CLIP, 1, clips / "other")
    with pytest.raises(OptionError, match="2 to 20000 frames"):
        ClipConfig(seconds=0)


def test_motions_of_files_are_followed(clips):
    """The motion that was written is the motion of another clip, turned about the vertical and moved."""
    model = scene_model("open-x", "female")
    path = clips / "amass" / "000000_0_world.npz"
    params = model.params(betas=torch.zeros(1, model.num_betas))
    moved = moving(params, model, 5, float(CLIP.fps), 0.02, (path,), np.random.default_rng(0))
    original = load_amass(path, model).params
    np.testing.assert_allclose(moved.body_pose, original.body_pose, atol=1e-4)
    a, b = (so3_exp(each.global_orient) for each in (moved, original))
    np.testing.assert_allclose(a[:1].mT @ a, b[:1].mT @ b, atol=1e-4)
    with torch.no_grad():
        lowest = model(**moved).vertices[..., 1].amin()
    assert float(lowest) == pytest.approx(0.02, abs=1e-4)
    with pytest.raises(OptionError, match="no folder with motions"):
        motion_files(clips / "videos")


def test_a_carried_camera_sees_one_place():
    """The background is where the world is: a point on the floor has the same colour from every frame's camera."""
    config = SceneConfig(people=(1, 1), size=128, things=0)
    clip = ClipConfig(seconds=1.0, fps=2.0)
    scenes = next(
        frames for i in range(20) if (frames := sample_clip(config, clip, 3, i))[0].camera is not frames[1].camera
    )
    assert not torch.equal(scenes[0].t_cam_world_m, scenes[1].t_cam_world_m)
    place = Place.of(scenes[0], None)
    exposures = [place.painter.paint(scene, FloorView.of(scene))[1] for scene in scenes]
    assert exposures[0] == exposures[1]
    turned_back = [place.light.turned(scene.R_cam_world.double().numpy()).towards for scene in scenes]
    world = [scene.R_cam_world.double().numpy().T @ towards for scene, towards in zip(scenes, turned_back, strict=True)]
    np.testing.assert_allclose(world[0], world[1], atol=1e-5)


def test_shards_hold_the_same_scenes(folder, tmp_path):
    out = tmp_path / "data"
    labels, keypoints = (*LABELS, "depth_npy"), ("openpose25", "smpl24")
    write_scenes(CONFIG, 2, out, seed=5, labels=labels, keypoints=keypoints, shard=1)
    assert (out / "annotations.json").read_bytes() == (folder / "annotations.json").read_bytes()
    for i in range(2):
        with tarfile.open(out / "shards" / f"{i:06d}.tar") as archive:
            members = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}
        assert members.pop(f"{i:06d}.jpg") == (folder / "images" / f"{i:06d}.jpg").read_bytes()
        assert members.pop(f"{i:06d}.json") == (folder / "scenes" / f"{i:06d}.json").read_bytes()
        for name, content in members.items():
            key, label, suffix = name.split(".")
            assert content == (folder / label / f"{key}.{suffix}").read_bytes()
        assert len(members) == len(labels) + 2
    assert sorted(path.name for path in out.iterdir()) == ["annotations.json", "card.json", "scenes", "shards"]
    # A run that was killed while it removed what it had packed goes on.
    (out / "images").mkdir()
    (out / "images" / "000000.jpg").write_bytes(b"left over")
    write_scenes(CONFIG, 2, out, seed=5, labels=labels, keypoints=keypoints, shard=1, resume=True)
    assert not (out / "images").exists()


def test_another_engine_and_a_scene_that_fails(folder, tmp_path):
    def engine(job, numbers):
        for i in reversed(numbers):
            yield i, Failure("it is Monday") if i == 0 else scene_files(job, i)

    with pytest.raises(BodyfitError, match="1 of 2 scenes failed, scene 0 first: it is Monday"):
        write_scenes(CONFIG, 2, tmp_path / "data", seed=5, labels=(), engine=engine)
    assert (tmp_path / "data/images/000001.jpg").read_bytes() == (folder / "images/000001.jpg").read_bytes()
    listed = json.loads((tmp_path / "data/annotations.json").read_text())
    assert [image["id"] for image in listed["images"]] == [1]


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"bodyfit\[ray\]"):
        scene_ray_engine()


@pytest.mark.slow
def test_ray_draws_what_this_machine_draws(folder, tmp_path):
    pytest.importorskip("ray.data", reason="the extra [ray]", exc_type=ImportError)
    write_scenes(CONFIG, 2, tmp_path / "data", seed=5, labels=("masks",), engine=scene_ray_engine(2))
    for name in ("images/000001.jpg", "masks/000000.png", "params/000001.npz", "annotations.json"):
        assert (tmp_path / "data" / name).read_bytes() == (folder / name).read_bytes()


def posed(model, params) -> np.ndarray:
    with torch.no_grad():
        return model(**params).vertices[0].double().numpy()


def test_a_scene_depends_on_seed_and_number_alone(scene):
    again = sample_scene(SceneConfig(people=(2, 3), size=96), 5, 1)
    assert again.focal_px == scene.focal_px
    assert torch.equal(again.t_cam_world_m, scene.t_cam_world_m)
    assert [p.outfit for p in again.people] == [p.outfit for p in scene.people]
    other = sample_scene(CONFIG, 5, 2)
    assert not torch.equal(other.t_cam_world_m, scene.t_cam_world_m)


def test_the_camera_is_upright_and_sees_the_people(scene, drawing):
    R = scene.R_cam_world.double()
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=R.dtype), atol=1e-5)
    assert torch.det(R) == pytest.approx(1, abs=1e-5)
    assert R[1, 1] < 0  # down in the picture is down in the world
    assert abs(float(R[0, 1])) < 0.12  # and right is level, but for some roll
    assert (drawing.person >= 0).mean() > 0.02
    assert 0.3 <= scene.eye_m[1] <= 4.0


def test_maps_agree_with_each_other(drawing):
    somebody = drawing.person >= 0
    np.testing.assert_array_equal(somebody, drawing.garments > 0)
    np.testing.assert_array_equal(somebody, drawing.parts > 0)
    assert np.isfinite(drawing.depth_m[somebody]).all()
    assert drawing.parts.max() <= 24
    assert drawing.picture.shape == (96, 96, 3)


def test_keypoints_lie_on_their_people(scene, drawing):
    records = coco_records(scene, drawing, CONFIG.model, 7)
    assert records
    for record in records:
        x, y, w, h = record["bbox"]
        assert record["area"] == (drawing.person == record["person"]).sum()
        rows, columns = np.nonzero(drawing.person == record["person"])
        assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (x, y, w, h)
        points = np.array(record["keypoints"]).reshape(17, 3)
        visible = points[points[:, 2] == 2]
        inside = (
            (visible[:, 0] > x - 3)
            & (visible[:, 0] < x + w + 3)
            & (visible[:, 1] > y - 3)
            & (visible[:, 1] < y + h + 3)
        )
        assert inside.mean() > 0.9
        assert record["num_keypoints"] == (points[:, 2] > 0).sum()
        assert record["id"] == 701 + record["person"]  # pycocotools takes an id of 0 for no match


def test_normals_are_those_of_the_depth(scene, drawing):
    """Differences of neighbours' places give a surface's slope too, if less exactly."""
    at = (np.arange(96) + 0.5 - 48) / scene.focal_px
    place = np.stack([*np.meshgrid(at, at), np.ones((96, 96))], -1)
    lengths = np.linalg.norm(drawing.normals, axis=-1)
    np.testing.assert_allclose(lengths, np.isfinite(drawing.depth_m), atol=1e-4)
    place = place * np.where(drawing.person >= 0, drawing.depth_m, 1e6)[..., None]
    across, down = place[1:-1, 2:] - place[1:-1, :-2], place[2:, 1:-1] - place[:-2, 1:-1]
    slope = np.cross(down, across)
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    agreement = (slope * drawing.normals[1:-1, 1:-1]).sum(-1)
    near = (drawing.person[1:-1, 1:-1] >= 0) & (np.abs(across[..., 2]) < 0.05) & (np.abs(down[..., 2]) < 0.05)
    assert near.sum() > 100
    assert np.median(agreement[near]) > 0.9
    assert (agreement[near] > 0.5).mean() > 0.9


def test_keypoints_of_any_layout_are_one_body(scene, drawing):
    layouts = ("wholebody133", "openpose25", "mediapipe33")
    arrays = keypoint_arrays(scene, drawing, CONFIG.model, layouts)
    for layout in layouts:
        points, cam = arrays[layout], arrays[f"{layout}_cam_m"]
        assert points.shape == cam.shape == (len(scene.people), len(layout_names(layout)), 3)
        again = cam[..., :2] / cam[..., 2:] * scene.focal_px + 48
        placed = points[..., 2] > 0
        np.testing.assert_allclose(points[placed][:, :2], again[placed], atol=1e-2)
    row = layout_names("openpose25").index("left_knee"), layout_names("wholebody133").index("left_knee")
    np.testing.assert_allclose(arrays["openpose25"][:, row[0]], arrays["wholebody133"][:, row[1]])
    # COCO counts from the middle of the first pixel.
    for record in coco_records(scene, drawing, CONFIG.model, 0):
        ours, theirs = arrays["wholebody133"][record["person"], :17], np.reshape(record["keypoints"], (17, 3))
        placed = theirs[:, 2] > 0
        np.testing.assert_allclose(theirs[placed, :2] + 0.5, ours[placed, :2], atol=0.006)


def test_feet_touch_the_floor_where_they_are_low(scene, drawing):
    arrays = body_arrays(scene, drawing, CONFIG.model)
    for height, touches, person in zip(arrays["foot_height_m"], arrays["foot_contact"], scene.people, strict=True):
        np.testing.assert_array_equal(touches, height - person.sole_m <= CONTACT_M)
        with torch.no_grad():
            joints = scene_model(CONFIG.model, person.gender)(**person.params).joints[0, :, 1].numpy()
        assert (height < joints[[7, 8, 10, 11]]).all()  # soles lie below ankles and balls of the feet
        assert (height > joints[[7, 8, 10, 11]] - 0.2).all()
    for record in coco_records(scene, drawing, CONFIG.model, 0):
        names = [str(name) for name in arrays["foot_names"]]
        assert record["foot_contact"] == dict(zip(names, arrays["foot_contact"][record["person"]], strict=True))


def test_pycocotools_reads_annotations(folder):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(folder / "annotations.json")
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.asarray(Image.open(folder / "masks" / f"{image['id']:06d}.png"))
        for one in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            np.testing.assert_array_equal(coco.annToMask(one) > 0, mask == one["person"] + 1)
    names = ("image_id", "category_id", "keypoints")
    truth = coco.loadRes([{**{k: one[k] for k in names}, "score": 1.0} for one in coco.dataset["annotations"]])
    score = COCOeval(coco, truth, "keypoints")
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[0] == pytest.approx(1)


def test_a_folder_is_truth_for_evaluation(folder, scene, drawing):
    """Scene 1 of the folder is `scene`."""
    chosen = joint_set("smpl22")
    truth = load_subject(folder, Wanted(chosen, vertices=True))
    records = [one for one in json.loads((folder / "annotations.json").read_text())["annotations"]]
    assert len(truth.points) == len(records)
    for k, record in enumerate(records):
        if record["image_id"] == 1:
            np.testing.assert_allclose(truth.vertices[k], drawing.bodies_cam[record["person"]], atol=1e-4)
            np.testing.assert_allclose(truth.points[k], drawing.joints_cam[record["person"]][:22], atol=1e-4)
    report = compare(truth, truth, joints=chosen, root="pelvis", which=["mpjpe", "pve"])
    assert [score.mean for score in report.scores] == pytest.approx([0, 0], abs=1e-9)
    sequences = read_scenes(folder)
    assert sorted(k for sequence in sequences for k in sequence.frame) == list(range(len(records)))
    with pytest.raises(OptionError, match="smpl24"):
        load_subject(folder, Wanted(joint_set("smpl24")))


def test_folders_that_are_no_truth(tmp_path, folder):
    for name in ("card.json", "annotations.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    with pytest.raises(AssetError, match=r"000000\.npz"):
        read_scenes(tmp_path)
    (tmp_path / "annotations.json").write_text('{"annotations": [{"person": 0}]}')
    with pytest.raises(AssetError, match="lacks image_id"):
        read_scenes(tmp_path)
    (tmp_path / "card.json").write_text('{"model": "../body.npz"}')
    with pytest.raises(AssetError, match=r"card.json: model must be"):
        read_scenes(tmp_path)


def test_torch_loads_pictures_and_labels(folder, scene, drawing):
    data = SceneDataset(folder, labels=(*LABELS, "depth_npy"))
    assert len(data) == 2
    item = next(iter(torch.utils.data.DataLoader(torch.utils.data.Subset(data, [1]), collate_fn=list)))[0]
    assert item["id"] == 1
    assert item["image"].shape == (3, 96, 96)
    assert (item["image"].permute(1, 2, 0).float() - torch.from_numpy(drawing.picture).float()).abs().mean() < 12
    np.testing.assert_array_equal(item["masks"], drawing.person + 1)
    np.testing.assert_array_equal(item["depth_npy"], drawing.depth_m)
    somebody = drawing.person >= 0
    np.testing.assert_allclose(item["depth"][somebody], drawing.depth_m[somebody], atol=6e-4)
    np.testing.assert_allclose(item["normals"].permute(1, 2, 0) * torch.tensor([1, -1, -1]), drawing.normals, atol=5e-3)
    assert item["params"]["poses"].shape[0] == len(item["gender"]) == len(scene.people)
    assert {one["person"] for one in item["annotations"]} <= set(range(len(scene.people)))
    with pytest.raises(OptionError, match="labels must be of"):
        SceneDataset(folder, labels=("flow",))
    with pytest.raises(OptionError, match="no folder images"):
        SceneDataset(folder / "masks")


def test_run_lengths_are_cocos():
    mask = np.zeros((4, 3), bool)
    mask[1:3, 1] = True
    mask[0, 2] = True
    assert run_lengths(mask) == {"size": [4, 3], "counts": [5, 2, 1, 1, 3]}
    assert run_lengths(~mask)["counts"] == [0, 5, 2, 1, 1, 3]


def test_parameters_give_the_bodies_in_camera_and_world(scene, drawing):
    arrays = body_arrays(scene, drawing, CONFIG.model)
    R, t = arrays["R_cam_world"], arrays["t_cam_world_m"]
    for i, person in enumerate(scene.people):
        model = load_model(CONFIG.model, gender=str(arrays["gender"][i]))
        own = {name: torch.from_numpy(arrays[name][i : i + 1]) for name in person.params if name in arrays}
        for suffix in ("", "_world"):
            moved = {"transl": arrays[f"trans{suffix}"], "global_orient": arrays[f"global_orient{suffix}"]}
            params = BodyParams(**{**own, **{k: torch.from_numpy(v[i : i + 1]) for k, v in moved.items()}})
            vertices = model(**params).vertices[0].detach().double().numpy()
            if suffix:
                vertices = vertices @ R.T + t
            np.testing.assert_allclose(vertices, drawing.bodies_cam[i].double().numpy(), atol=1e-4)


def test_a_set_is_written_whole_and_goes_on(folder):
    listed = json.loads((folder / "annotations.json").read_text())
    assert [image["id"] for image in listed["images"]] == [0, 1]
    assert {one["image_id"] for one in listed["annotations"]} == {0, 1}
    card = json.loads((folder / "card.json").read_text())
    before = {}
    for i in range(2):
        for label, kind in (
            ("images", "jpg"),
            ("masks", "png"),
            ("garments", "png"),
            ("parts", "png"),
            ("depth", "png"),
            ("normals", "png"),
        ):
            path = folder / label / f"{i:06d}.{kind}"
            with Image.open(path) as file:
                assert file.size == (96, 96)
            before[path] = path.read_bytes()
    metres = np.load(folder / "depth_npy" / "000000.npy")
    assert np.isfinite(metres[np.asarray(Image.open(folder / "masks" / "000000.png")) > 0]).all()
    with np.load(folder / "keypoints" / "000000.npz") as keypoints:
        assert keypoints["openpose25"].shape[1:] == (len(card["keypoints"]["openpose25"]), 3)
    garments = np.unique(np.asarray(Image.open(folder / "garments" / "000000.png")))
    assert {str(value) for value in garments if value} <= set(card["garments"])
    kinds = {"labels": (*LABELS, "depth_npy"), "keypoints": ("openpose25", "smpl24")}
    # What a stopped run has not finished is drawn as it would have been; what is whole stays.
    (folder / "scenes" / "000001.json").unlink()
    (folder / "images" / "000001.jpg").write_bytes(b"half")
    whole = folder / "images" / "000000.jpg"
    whole.write_bytes(b"kept")
    write_scenes(CONFIG, 2, folder, seed=5, resume=True, **kinds)
    assert whole.read_bytes() == b"kept"
    whole.write_bytes(before[whole])
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((folder / "annotations.json").read_text()) == listed


def test_folders_are_not_mixed(folder):
    with pytest.raises(OptionError, match="has scenes already"):
        write_scenes(CONFIG, 2, folder, seed=5)
    with pytest.raises(OptionError, match="made with other settings"):
        write_scenes(CONFIG, 2, folder, seed=6, resume=True)


def test_photographs_as_backgrounds(tmp_path, scene):
    Image.fromarray(np.full((60, 80, 3), (200, 30, 30), np.uint8)).save(tmp_path / "red.png")
    drawing = draw_scene(scene, CONFIG.model, tmp_path)
    outside = drawing.picture[drawing.person < 0].astype(float)
    assert np.median(outside[:, 0]) > 2 * np.median(outside[:, 1])
    with pytest.raises(OptionError, match="no folder with pictures"):
        draw_scene(scene, CONFIG.model, tmp_path / "none")


@pytest.mark.parametrize(("settings", "words"), [({"people": (3, 2)}, "least first"), ({"size": 8}, "32 to 4096")])
def test_settings_that_cannot_be_meant(settings, words):
    with pytest.raises(OptionError, match=words):
        SceneConfig(**settings)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (4, 3, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png_is_read_back(shape, kind):
    values = np.random.default_rng(1).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    if kind is np.uint16 and len(shape) == 3:  # Pillow has no RGB of 16 bits
        flags = cv2.IMREAD_UNCHANGED
        decoded = cv2.imdecode(np.frombuffer(png_bytes(values), np.uint8), flags)
        order = [2, 1, 0, 3][: shape[2]]
        np.testing.assert_array_equal(decoded[..., order], values)
    else:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(values)))), values)
    with pytest.raises(OptionError, match="grey, RGB or RGBA"):
        png_bytes(np.zeros((4, 4, 2), np.uint8))


def test_depth_of_nobody_is_none(folder):
    with Image.open(folder / "depth" / "000001.png") as depth, Image.open(folder / "masks" / "000001.png") as masks:
        assert (np.asarray(depth)[np.asarray(masks) > 0] > 0).all()
        assert (np.asarray(depth) == 0).any()
