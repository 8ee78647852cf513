"""CAPE and 4D-Dress: folders made in their layout, of the open body in place of SMPL, and the scores."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from official_files import write

import bodyfit
from bodyfit.body.params import BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate import scan_fits
from bodyfit.evaluate.scan_fits import evaluate_scans
from bodyfit.evaluate.scan_sets import Cape, FourDDress
from bodyfit.fit.result import FitStatus
from bodyfit.register.registration import Registration

CLOTHES_M = 0.001


@pytest.fixture(scope="module")
def people():
    """Two poses of a woman, on her own body: parameters, vertices and joints, metres, away from the origin."""
    model = bodyfit.load_model("open", gender="female", dtype=torch.float64)
    params = dict(bodyfit.random_bodies(2, model=model, seed=3))
    params |= {"betas": params["betas"][:1].expand(2, -1), "transl": torch.tensor([[0.4, -0.2, 1.1], [0.5, 0.1, -0.3]])}
    params = {name: value.double() for name, value in params.items()}
    out = model(**params)
    return model, params, out.vertices.numpy(), out.joints.numpy()


def smpl_pickle(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, 2))


@pytest.fixture
def cape(tmp_path, people) -> Path:
    """A folder in CAPE's layout: one sequence of two frames, and a scan whose frame was removed."""
    model, params, vertices, _ = people
    root, name = tmp_path / "cape_release", "shortlong_hips"
    for folder in (root / "raw_scans/00096" / name, root / "sequences/00096" / name, root / "minimal_body_shape/00096"):
        folder.mkdir(parents=True)
    rest = model(betas=params["betas"][:1]).vertices[0].numpy()
    np.save(root / "minimal_body_shape/00096/00096_minimal.npy", rest)
    smpl_pickle(root / "misc/subj_genders.pkl", {"00096": "female"})
    for i in range(3):
        frame = min(i, 1)
        stem = f"{name}.{i + 1:06d}"
        mesh = trimesh.Trimesh(1000 * (vertices[frame] + CLOTHES_M), model.faces.numpy(), process=False)
        mesh.export(root / "raw_scans/00096" / name / f"{stem}.ply")
        pose = torch.cat([params["global_orient"], params["body_pose"]], 1)[frame].numpy()
        values = {"pose": pose, "transl": params["transl"][frame].numpy(), "v_posed": vertices[frame], "v_cano": rest}
        if i < 2:
            np.savez(root / "sequences/00096" / name / f"{stem}.npz", **values)
    return tmp_path


@pytest.fixture
def dress(tmp_path, people) -> Path:
    """A folder in 4D-Dress's layout: one take of two frames."""
    model, params, vertices, _ = people
    take = tmp_path / "00123" / "Outer" / "Take8"
    for i in range(2):
        stem = f"mesh-f{11 + i:05d}"
        colors = np.full((len(vertices[i]), 4), 200, np.uint8)
        scan = {"vertices": vertices[i] + CLOTHES_M, "faces": model.faces.numpy(), "colors": colors}
        smpl_pickle(take / "Meshes_pkl" / f"{stem}.pkl", scan)
        names = ("global_orient", "body_pose", "transl", "betas")
        smpl_pickle(take / "SMPL" / f"{stem}_smpl.pkl", {name: params[name][i].numpy() for name in names})
        trimesh.Trimesh(vertices[i], model.faces.numpy(), process=False).export(take / "SMPL" / f"{stem}_smpl.ply")
    return tmp_path


def test_capes_bodies_lie_in_the_axes_of_its_scans(cape, people):
    """The subject's own T-pose is posed, with joints of that body: no shape coefficients are in the files."""
    _, _, vertices, joints = people
    data = Cape(cape, "open")
    assert [path.name for path in data.frames] == [f"shortlong_hips.{i:06d}.ply" for i in (1, 2)]
    for i, path in enumerate(data.frames):
        person = data.read(path)
        np.testing.assert_allclose(person.vertices, vertices[i], atol=1e-5)
        np.testing.assert_allclose(person.joints, joints[i], atol=1e-5)
        np.testing.assert_allclose(person.scan.points / 1000, vertices[i] + CLOTHES_M, atol=1e-5)


def test_4d_dress_bodies_are_of_the_gender_of_their_mesh(dress, people):
    _, _, vertices, joints = people
    for folder in (dress, dress / "00123" / "Outer" / "Take8"):
        data = FourDDress(folder, "open")
        assert [path.name for path in data.frames] == ["mesh-f00011.pkl", "mesh-f00012.pkl"]
        person = data.read(data.frames[1])
        np.testing.assert_allclose(person.vertices, vertices[1], atol=1e-5)
        np.testing.assert_allclose(person.joints, joints[1], atol=1e-5)
        assert person.scan.colors is not None
        assert person.scan.colors.shape == person.vertices.shape


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SMPL/mesh-f00011_smpl.pkl", {"transl": np.zeros(3)}, "global_orient"),
        ("Meshes_pkl/mesh-f00011.pkl", {"vertices": np.zeros((5, 3))}, "faces"),
        ("Meshes_pkl/mesh-f00011.pkl", {"vertices": np.zeros((5, 3)), "faces": np.full((2, 3), 9)}, "faces"),
        ("Meshes_pkl/mesh-f00011.pkl", {"vertices": np.zeros((5, 3)), "faces": np.zeros((2, 3), int)}, "5 points"),
        ("Meshes_pkl/mesh-f00011.pkl", {"vertices": np.full((200, 3), 9.0), "faces": np.zeros((2, 3), int)}, "apart"),
    ],
)
def test_faulty_files_of_4d_dress_are_named(dress, name, value, words):
    smpl_pickle(dress / "00123/Outer/Take8" / name, value)
    data = FourDDress(dress, "open")
    with pytest.raises(AssetError, match=f"mesh-f00011.*{words}"):
        data.read(data.frames[0])


def test_a_mesh_that_its_parameters_do_not_pose_is_refused(dress):
    path = dress / "00123/Outer/Take8/SMPL/mesh-f00011_smpl.pkl"
    values = pickle.loads(path.read_bytes())
    smpl_pickle(path, values | {"betas": values["betas"] + 1.0})
    data = FourDDress(dress, "open")
    with pytest.raises(AssetError, match="of any gender"):
        data.read(data.frames[0])


def test_what_lacks_is_told_before_the_work(cape, dress, tmp_path):
    with pytest.raises(AssetError, match="separate download"):
        Cape(dress / "00123", "open")
    with pytest.raises(AssetError, match="Meshes_pkl"):
        FourDDress(cape / "cape_release" / "misc", "open")
    with pytest.raises(OptionError, match="SMPL"):
        Cape(cape, "open-x")
    with pytest.raises(AssetError, match="no such file"):
        FourDDress(dress, tmp_path / "none.pkl")
    smpl_pickle(cape / "cape_release/misc/subj_genders.pkl", {"00096": "unknown"})
    with pytest.raises(AssetError, match="unknown"):
        Cape(cape, "open")


@pytest.fixture
def shifted(monkeypatch, people):
    """Replaces the registration by one whose vertices are 3 mm and whose joints are 5 mm off the truth."""
    _, params, vertices, joints = people
    calls = []

    def register(points, *, model, unit, clothed, surface, **_options):
        scale = {"m": 1.0, "mm": 0.001}[unit]
        i = int(np.argmin([np.abs(scale * points - CLOTHES_M - one).max() for one in vertices]))
        calls.append(i)
        assert clothed
        assert not surface
        mesh = torch.from_numpy(vertices[i] + np.array([0.003, 0, 0]))
        found = torch.from_numpy(joints[i] + np.array([0, 0.005, 0]))
        if len(model.v_template) != len(mesh):
            mesh = model.v_template
            found = torch.cat([found, found.new_zeros(model.num_joints - len(found), 3)])
        one = BodyParams(**{name: value[i : i + 1] for name, value in params.items()})
        status = FitStatus.POOR if i else FitStatus.CONVERGED
        return Registration(one, None, None, status, None, vertices=mesh, joints=found)

    monkeypatch.setattr(scan_fits, "register", register)
    return calls


@pytest.mark.parametrize("dataset", ["cape", "4d-dress"])
def test_scores_are_mean_distances_without_alignment(dataset, request, shifted):
    folder = request.getfixturevalue(dataset.removeprefix("4d-"))
    scores = evaluate_scans(dataset, folder, bodyfit.load_model("open"), truth="open")
    assert shifted == [0, 1]
    assert (scores.scans, scores.poor, scores.failed, scores.unreadable) == (2, 1, 0, 0)
    assert scores.joints == "smpl24"
    for name, want in (("v2v", 3.0), ("mpjpe", 5.0)):
        assert getattr(scores, f"{name}_mm") == pytest.approx(want, abs=0.02)
        assert getattr(scores, f"{name}_median_mm") == pytest.approx(want, abs=0.02)


def test_a_damaged_file_costs_one_scan(cape, shifted, capsys):
    (cape / "cape_release/sequences/00096/shortlong_hips/shortlong_hips.000001.npz").write_bytes(b"PK")
    assert main(["eval", "cape", str(cape), "--truth-model", "open", "--json"]) == 0
    told = capsys.readouterr()
    scores = json.loads(told.out)["scores"]
    assert (scores["scans"], scores["unreadable"]) == (2, 1)
    assert scores["mpjpe_mm"] == pytest.approx(5.0, abs=0.02)
    assert "left out" in told.err
    assert "000001" in told.err
    assert shifted == [1]


def test_another_mesh_is_compared_by_its_joints(dress, shifted, capsys):
    other, _ = write(dress / "models", "SMPL-X short npz")
    command = ["eval", "4d-dress", str(dress), "--truth-model", "open", "--pred-model", str(other), "--every", "2"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "only joints" in told.err
    assert "smpl22" in told.out
    assert shifted == [0]


def test_the_command_asks_for_smpl(cape, capsys):
    assert main(["eval", "cape", str(cape)]) == 2
    assert "--truth-model" in capsys.readouterr().err


@pytest.mark.slow  # half a minute: one scan is registered
def test_a_scan_is_registered_and_scored(cape):
    scores = evaluate_scans("cape", cape, bodyfit.load_model("open"), truth="open", every=2)
    assert scores.scans == 1
    assert scores.v2v_mm < 15
    assert scores.mpjpe_mm < 15
