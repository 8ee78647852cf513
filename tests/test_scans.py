"""Bodies under scans: files, clouds, derivatives of the skin, and registrations of known bodies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.cli.main import main
from bodyfit.errors import OptionError, ScanError, ShapeError
from bodyfit.geometry.cloud import as_cloud, estimated_normals, sampled, thinned
from bodyfit.io.results.bodies import read_bodies
from bodyfit.io.results.registration import save_registration, upright_turn
from bodyfit.io.scans.load import load_scan
from bodyfit.register.arms import hand_vertices
from bodyfit.register.orientation import oriented
from bodyfit.register.quality import doubtful_hands, misfit, unscanned_parts, verdict
from bodyfit.register.surface.offsets import Surface
from bodyfit.register.surroundings import without_surroundings
from bodyfit.register.units import plausible_units
from bodyfit.register.views import camera_around, draw, visible_points


@pytest.fixture(scope="module")
def person():
    """A body in a natural pose, y up: the model, its parameters and its mesh (float64)."""
    model = bodyfit.load_model()
    params = bodyfit.random_bodies(1, model=model, seed=7)
    with torch.no_grad():
        out = model(**params)
    return model, params, out.vertices[0].double().numpy(), model.faces.numpy(), out.joints[0].double().numpy()


def scan_of(person, count: int, *, noise_m: float = 1e-3, seed: int = 0):
    cloud = sampled(person[2], person[3], count, seed=seed)
    return cloud.points + noise_m * np.random.default_rng(seed).normal(size=cloud.points.shape), cloud.normals


# Searches and clouds.


def test_a_thinned_cloud_is_even():
    points = np.random.default_rng(0).random((50_000, 3)) ** 3  # dense in a corner
    rows = thinned(points, 2000)
    assert 1500 < len(rows) < 2500
    assert len(np.unique(rows)) == len(rows)
    dense, sparse = ((points[rows] < 0.25).all(1).mean(), (points < 0.25).all(1).mean())
    assert dense < 0.25 * sparse


def test_estimated_normals_are_turned_outwards(person):
    points, normals = scan_of(person, 30_000)
    cloud = as_cloud(points)
    assert not cloud.oriented
    assert cloud.normals is not None
    assert np.quantile(np.abs((cloud.normals * normals).sum(1)), 0.1) > 0.9
    turned = oriented(cloud).normals
    assert turned is not None
    below = points[:, 1] < person[4][12, 1]  # the neck: there are eyeballs and a mouth in the head, which no one sees
    assert ((turned * normals).sum(1) > 0)[below].mean() > 0.93


def test_a_plane_has_its_normal():
    points = np.random.default_rng(0).random((500, 3)) * (1, 1, 0)
    np.testing.assert_allclose(np.abs(estimated_normals(points)[:, 2]), 1, atol=1e-9)


def test_floor_and_pedestal_are_left_out_and_the_person_is_not(person):
    points, _ = scan_of(person, 40_000)
    rng, low, middle = np.random.default_rng(1), points[:, 1].min(), points.mean(0)
    floor = np.stack([rng.uniform(-1.5, 1.5, 20_000), np.full(20_000, low - 0.3), rng.uniform(-1.5, 1.5, 20_000)], 1)
    box = trimesh.creation.box((0.8, 0.3, 0.8))
    box.apply_translation((middle[0], low - 0.15, middle[2]))
    plate = sampled(np.asarray(box.vertices), np.asarray(box.faces), 15_000).points
    others = np.concatenate([floor + np.array((middle[0], 0, middle[2])), plate])
    R = Rotation.from_rotvec((0.5, 2.0, -1.0)).as_matrix()
    cloud = as_cloud(np.concatenate([points, others + 1e-3 * rng.normal(size=others.shape)]) @ R.T)
    keep = without_surroundings(cloud).keep
    height = (cloud.points @ R)[:, 1] - low  # of the soles, and of the plate
    assert keep[height > 0.03].mean() > 0.98
    assert keep[height < -0.02].mean() < 0.01
    assert without_surroundings(as_cloud(points)).keep.mean() > 0.999


def test_a_view_hides_the_back(person):
    points, normals = scan_of(person, 20_000)
    camera = camera_around(points.mean(0), 1.2, np.eye(3)[1], np.eye(3)[2], yaw_deg=30, size_px=96)
    away = -camera.R.T @ camera.t - points
    rows = visible_points(points, camera, tolerance=0.03)
    facing = (normals * away / np.linalg.norm(away, axis=1, keepdims=True)).sum(1)
    assert 0.15 < len(rows) / len(points) < 0.6
    assert (facing[rows] > -0.2).mean() > 0.94
    image = draw(as_cloud(points, normals), camera).image
    assert image.shape == (96, 96, 3)
    assert 0.03 < (image[..., 0] != image[0, 0, 0]).mean() < 0.5
    np.testing.assert_allclose(camera.project(points.mean(0)[None])[0], (48, 48), atol=1e-6)


# Units and bad input.


def test_units_are_told_by_size(person):
    points, _ = scan_of(person, 2000)
    for unit_m in (1.0, 0.01, 0.001):
        assert plausible_units(points / unit_m) == [unit_m]
    assert plausible_units(points / 0.0254, "in") == [0.0254]
    with pytest.raises(OptionError, match="size of no person"):
        plausible_units(points * 0.02)
    head = np.random.default_rng(0).uniform(0, 8.4, (500, 3))  # a real head scan is that wide in units of 0.048 m
    with pytest.raises(OptionError, match=r"0\.2 for a standing person, 0\.048 for a head with shoulders"):
        plausible_units(head)
    with pytest.raises(OptionError, match="unit must be"):
        plausible_units(points, "yard")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"points": np.zeros((0, 3))}, OptionError, "no points"),
        ({"points": np.full((500, 3), np.nan)}, OptionError, "none of the 500 points is finite"),
        ({"points": np.zeros((500, 2))}, ShapeError, "points must be"),
        ({"points": np.random.default_rng(0).random((50, 3))}, OptionError, "too few"),
        (
            {"points": np.random.default_rng(0).random((500, 3)), "normals": np.zeros((3, 3))},
            ShapeError,
            "normals must",
        ),
        ({"points": np.random.default_rng(0).random((500, 3)), "faces": [[0, 1, 900]]}, OptionError, "faces name"),
        ({"points": 1e5 * np.random.default_rng(0).random((500, 3))}, OptionError, "size of no person"),
        ({"points": np.random.default_rng(0).random((500, 3)), "start": "guess"}, OptionError, "start must be"),
    ],
)
def test_bad_scans_get_a_clear_word(arguments, error, words):
    with pytest.raises(error, match=words):
        bodyfit.register(**arguments)


def test_the_command_names_the_file(tmp_path, capsys):
    path = tmp_path / "nothing.xyz"
    np.savetxt(path, np.full((500, 3), np.nan))
    assert main(["register", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "nothing.xyz: none of the 500 points is finite" in capsys.readouterr().err


# Files.


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".stl", ".off"])
def test_meshes_come_back(tmp_path, suffix):
    box = trimesh.creation.box((1, 2, 3))
    box.export(tmp_path / f"box{suffix}")
    scan = load_scan(tmp_path / f"box{suffix}")
    assert scan.faces is not None
    np.testing.assert_allclose(np.ptp(scan.points, axis=0), (1, 2, 3), atol=1e-6)
    area = sampled(scan.points, scan.faces, 2000)
    assert (np.abs(np.abs(area.points) - (0.5, 1.0, 1.5)).min(1) < 1e-6).all()
    assert ((area.points * area.normals).sum(1) > 0).all()


def test_clouds_come_back(tmp_path):
    rng = np.random.default_rng(0)
    points, normals = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colors = rng.integers(0, 256, (60, 3)).astype(float)
    np.savetxt(tmp_path / "a.xyz", points)
    np.savetxt(tmp_path / "b.txt", np.concatenate([points, normals], 1), header="x y z nx ny nz")
    np.savetxt(
        tmp_path / "c.csv", np.concatenate([points, colors], 1), delimiter=",", header="x,y,z,r,g,b", comments=""
    )
    np.savez(tmp_path / "d.npz", points=points, normals=normals, colors=colors)
    np.save(tmp_path / "e.npy", points)
    trimesh.PointCloud(points, colors.astype(np.uint8)).export(tmp_path / "f.ply")
    for name in ("a.xyz", "b.txt", "c.csv", "d.npz", "e.npy", "f.ply"):
        scan = load_scan(tmp_path / name)
        np.testing.assert_allclose(scan.points, points, atol=1e-6)
        assert scan.faces is None
        if name[0] in "bd":
            assert scan.normals is not None
            np.testing.assert_allclose(scan.normals, normals, atol=1e-6)
        if name[0] in "cdf":
            assert scan.colors is not None
            np.testing.assert_allclose(scan.colors, colors / 255, atol=1e-6)


def test_bad_files_get_a_clear_word(tmp_path):
    cases = {
        "a.ply": b"not a ply",
        "b.glb": b"glTF",
        "c.xyz": b"hello\nworld\n",
        "d.npz": b"PK\x03\x04",
        "e.xyz": b"1 2 3\n4 5\n",
        "f.docx": b"",
        "g.obj": b"# nothing\n",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ScanError, match=name):
            load_scan(tmp_path / name)
    with pytest.raises(ScanError, match="no such file"):
        load_scan(tmp_path / "nobody.ply")


# Registrations.


@pytest.fixture(scope="module")
def registered(person):
    """The person scanned in millimetres, turned anyhow, without normals; and the scan's transform."""
    model, _, vertices, _, joints = person
    R, t = Rotation.from_rotvec((1.5, -1.0, 2.0)).as_matrix(), np.array((3.0, -1.0, 2.0))
    points, _ = scan_of(person, 20_000)
    result = bodyfit.register(1000 * (points @ R.T + t), model=model, surface=False)
    return model, result, vertices @ R.T + t, joints @ R.T + t


def test_a_body_is_found_under_its_scan(registered):
    _, result, vertices, joints = registered
    assert result.status is bodyfit.FitStatus.CONVERGED
    assert result.unit_m == 0.001
    assert result.start == "detector"
    assert not result.clothed
    apart = np.linalg.norm(result.vertices.numpy() - vertices, axis=1)
    assert apart.mean() < 2e-3  # a tenth of the noise of a scan of this density is left
    assert np.linalg.norm(result.joints.numpy() - joints, axis=1).mean() < 2e-3
    assert result.errors.median_m < 2e-3
    assert result.errors.covered > 0.75  # nobody sees into a mouth, and one normal in twenty has the wrong sign


def test_params_are_those_of_the_vertices(registered):
    model, result, _, _ = registered
    with torch.no_grad():
        out = model(**result.params)
    torch.testing.assert_close(out.vertices[0], result.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.joints[0], result.joints, atol=1e-5, rtol=0)


def test_a_saved_body_stands_upright_and_comes_back(registered, tmp_path):
    model, result, _, _ = registered
    save_registration(result, tmp_path / "body.npz", model)
    bodies = read_bodies(tmp_path / "body.npz")
    turn = upright_turn(result)
    assert np.linalg.det(turn) == pytest.approx(1)
    with torch.no_grad():
        vertices = bodies.model(**bodies.params).vertices[0].numpy()
    np.testing.assert_allclose(vertices @ turn, result.vertices.numpy(), atol=2e-5)
    up = (result.joints[15] - 0.5 * (result.joints[10] + result.joints[11])).numpy() @ turn.T
    assert up.argmax() == 1


def test_the_upright_turn_of_every_axis(registered):
    from dataclasses import replace

    _, result, _, _ = registered
    for axis in range(3):
        for sign in (-1.0, 1.0):
            joints = torch.zeros_like(result.joints)
            joints[15, axis] = sign
            turn = upright_turn(replace(result, joints=joints))
            assert np.linalg.det(turn) == pytest.approx(1)
            np.testing.assert_allclose(turn @ joints[15].numpy(), (0, 1, 0), atol=1e-12)


@pytest.mark.parametrize("source", ["open", "open-x"])
def test_parts_that_a_scan_does_not_show_are_named(source):
    model = bodyfit.load_model(source)
    with torch.no_grad():
        vertices = model(**model.params()).vertices[0].double().numpy()
    cloud = sampled(vertices, model.faces.numpy(), 20_000)
    height, side = cloud.points[:, 1], cloud.points[:, 0]
    shoulder = float(model.joints_template[model.skeleton.index("left_shoulder"), 0])

    def unscanned(rows):
        return unscanned_parts(misfit(cloud.select(rows), vertices, model.faces.numpy()), model)

    assert unscanned(np.ones(len(cloud), bool)) == ()
    assert unscanned(side < shoulder) == ("left arm",)
    neck = float(model.joints_template[model.skeleton.index("neck"), 1])
    assert set(unscanned(height > neck)) == {"trunk", "left leg", "right leg", "left arm", "right arm"}


def test_hands_that_a_scan_contradicts_are_doubtful(person):
    model, params, vertices, faces, _ = person
    cloud = sampled(vertices, faces, 40_000)
    assert doubtful_hands(cloud, vertices, model) == {}
    wrist = 3 * (model.skeleton.index("left_wrist") - 1)
    turned = params.body_pose.clone()
    turned[:, wrist] += np.pi / 2
    with torch.no_grad():
        other = model(**(dict(params) | {"body_pose": turned})).vertices[0].double().numpy()
    found = doubtful_hands(cloud, other, model)
    assert list(found) == ["left"]
    assert "turned wrongly" in found["left"]
    away = np.linalg.norm(cloud.points - person[4][model.skeleton.index("right_hand")], axis=1) > 0.12
    found = doubtful_hands(cloud.select(away), vertices, model)
    assert list(found) == ["right"]
    assert "next to nothing" in found["right"]


def test_fingers_are_fitted_where_hands_are_scanned():
    model = bodyfit.load_model("open-h")
    body = bodyfit.random_bodies(1, model=model, seed=2)
    fist = torch.as_tensor(load_hand_prior()[0].means[1], dtype=torch.float32) - model.hand_means[0]
    params = model.params(**(dict(body) | {"left_hand_pose": fist[None], "right_hand_pose": torch.zeros(1, 45)}))
    with torch.no_grad():
        vertices = model(**params).vertices[0].double().numpy()
        at_rest = model(**(dict(params) | {"left_hand_pose": torch.zeros(1, 45)})).vertices[0].double().numpy()
    fingers = hand_vertices(model, "left")
    before = 1000 * np.linalg.norm(at_rest - vertices, axis=1)[fingers].mean()
    assert before > 10
    cloud = sampled(vertices, model.faces.numpy(), 30_000)
    scan = cloud.points + 1e-3 * np.random.default_rng(0).normal(size=cloud.points.shape)
    result = bodyfit.register(scan, normals=cloud.normals, model=model, start=body, unit="m", surface=False)
    after = 1000 * np.linalg.norm(result.vertices.numpy() - vertices, axis=1)[fingers].mean()
    assert after < 4  # of 30,000 points with 1 mm of noise
    assert not result.doubtful


def test_legs_folded_into_a_clothed_trunk_are_not_scanned(person):
    model, params, vertices, faces, _ = person
    trunk = ("pelvis", "spine1", "spine2", "spine3", "neck", "head", "left_hip", "right_hip")
    arms = [
        f"{side}_{joint}" for side in ("left", "right") for joint in ("collar", "shoulder", "elbow", "wrist", "hand")
    ]
    upper = np.isin(model.weights.argmax(1).numpy(), [model.skeleton.index(name) for name in (*trunk, *arms)])
    cloud = sampled(vertices, faces[upper[faces].all(1)], 20_000)
    pose = params.body_pose.clone()
    for side in ("left", "right"):  # thighs along the belly, shins along the thighs
        for joint, angle in (("hip", -2.6), ("knee", 2.6)):
            row = 3 * (model.skeleton.index(f"{side}_{joint}") - 1)
            pose[:, row : row + 3] = torch.tensor([angle, 0.0, 0.0])
    folded = model.params(**(dict(params) | {"body_pose": pose}))
    with torch.no_grad():
        other = model(**folded).vertices[0].double().numpy()
    errors = misfit(cloud, other, faces, clothed=True)
    found = verdict(cloud, other, errors, folded, model, clothed=True, unseen=False)
    assert {"left leg", "right leg"} <= set(found.unscanned)
    whole = sampled(vertices, faces, 20_000)
    errors = misfit(whole, vertices, faces, clothed=True)
    assert verdict(whole, vertices, errors, params, model, clothed=True, unseen=False).reason is None


def test_a_bust_is_poor_with_its_limbs_named(person):
    model, params, vertices, faces, _ = person
    skeleton = model.skeleton
    upper = [
        skeleton.index(name) for name in ("spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_collar")
    ]
    own = faces[np.isin(model.weights.argmax(1).numpy(), upper)[faces].all(1)]
    cloud = sampled(vertices, own, 8000)
    result = bodyfit.register(cloud.points, model=model, normals=cloud.normals, start=params, unit="m", surface=False)
    assert result.status is bodyfit.FitStatus.POOR
    assert set(result.unscanned) == {"left arm", "right arm", "left leg", "right leg"}
    assert "the left leg" in (result.reason or "")


@pytest.mark.parametrize("oriented", [True, False])
def test_normals_without_sign_do_not_choose_colours(registered, tmp_path, monkeypatch, oriented):
    from dataclasses import replace

    from bodyfit.app import scan_files

    model, result, _, _ = registered
    at, faces, away = result.vertices.double().numpy(), model.faces.numpy(), np.abs(result.errors.points_m)
    surface = Surface(np.zeros_like(at), at, faces, model.uv, model.uv_faces, (), away, 0, 0)
    baked = []

    def bake_texture(*arguments):
        baked.append(arguments[-1])
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr(scan_files, "bake_texture", bake_texture)
    tinted = replace(result, colors=np.zeros_like(result.points), oriented=oriented)
    facts = scan_files._write_surface(tinted, surface, tmp_path, "")
    assert (baked[0].normals is not None) == oriented
    assert (tmp_path / "surface.glb").exists()
    assert sum(facts["histogram"]["counts"]) == len(away)


def test_an_arm_alone_is_poor(person):
    model, params, vertices, faces, _ = person
    arm = np.isin(
        model.weights.argmax(1).numpy(), [model.skeleton.index(f"left_{p}") for p in ("elbow", "wrist", "hand")]
    )
    own = faces[arm[faces].all(1)]
    cloud = sampled(vertices, own, 5000)
    result = bodyfit.register(cloud.points, model=model, normals=cloud.normals, start=params, unit="m", surface=False)
    assert result.status is bodyfit.FitStatus.POOR
    assert "too little" in (result.reason or "")


@pytest.mark.slow  # half a minute: the starts without a detector are many
def test_a_chair_is_poor():
    boxes = [((0.45, 0.04, 0.45), (0, 0.45, 0)), ((0.45, 0.5, 0.04), (0, 0.72, -0.2))]
    boxes += [((0.04, 0.45, 0.04), (x, 0.22, z)) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    parts = []
    for size, place in boxes:
        parts.append(trimesh.creation.box(size))
        parts[-1].apply_translation(place)
    chair = trimesh.util.concatenate(parts)
    cloud = sampled(np.asarray(chair.vertices), np.asarray(chair.faces), 20_000)
    result = bodyfit.register(cloud.points, normals=cloud.normals, surface=False)
    assert result.status is bodyfit.FitStatus.POOR
    assert "sees no person" in (result.reason or "")
