"""Scenes: the same from the same seed, people apart and on the floor, and labels that agree with the pictures."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bodyfit.body.model import load_model
from bodyfit.body.params import BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate import Wanted, compare, joint_set, load_subject, read_scenes
from bodyfit.io.png import png_bytes
from bodyfit.scenes import LABELS, SceneConfig, SceneDataset, draw_scene, sample_scene, write_scenes
from bodyfit.scenes.feet import CONTACT_M
from bodyfit.scenes.labels import body_arrays, coco_records, keypoint_arrays, run_lengths
from bodyfit.scenes.sample import scene_model
from bodyfit.skeleton import layout_names

CONFIG = SceneConfig(people=(2, 3), size=96)


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
    meshes = [mesh(person) for person in scene.people]
    for one in meshes:
        assert float(one[:, 1].min()) == pytest.approx(0, abs=1e-4)
    for i, a in enumerate(meshes):
        for b in meshes[:i]:
            assert torch.cdist(a[::7], b[::7]).min() > 0.02


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
    assert R[1, 1] < -0.8  # down in the picture is down in the world
    assert (drawing.person >= 0).mean() > 0.02
    assert 0.4 <= scene.eye_m[1] <= 2.8


def test_maps_agree_with_each_other(drawing):
    somebody = drawing.person >= 0
    np.testing.assert_array_equal(somebody, drawing.garments > 0)
    np.testing.assert_array_equal(somebody, drawing.parts > 0)
    np.testing.assert_array_equal(somebody, np.isfinite(drawing.depth_m))
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
    np.testing.assert_allclose(lengths, drawing.person >= 0, atol=1e-4)
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
        np.testing.assert_array_equal(touches, height <= CONTACT_M)
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
    assert (np.isfinite(metres) == (np.asarray(Image.open(folder / "masks" / "000000.png")) > 0)).all()
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
        np.testing.assert_array_equal(np.asarray(depth) > 0, np.asarray(masks) > 0)
