"""Annotation files in the benchmarks' layouts, and `bodyfit eval` over them.

The files hold random people; what they hold is consistent as the real ones are: joints are the body's, cameras rigid.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_body
from official_files import python2_pickle
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit import evaluate
from bodyfit.body.model import load_model
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.datasets import read_annotations
from bodyfit.evaluate.joint_sets import REGRESSOR_ROWS
from bodyfit.io.results.params import save_params

ROUNDING_M = 1e-9
T = 6


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> Path:
    """A folder of one SMPL-format body a gender, each of another shape."""
    folder = tmp_path_factory.mktemp("models") / "smpl"
    folder.mkdir()
    for seed, gender in enumerate(("neutral", "male", "female")):
        arrays = tiny_body(seed)
        arrays["v_template"] = arrays["v_template"] * (1 + 0.1 * seed)
        np.savez(folder / f"SMPL_{gender.upper()}.npz", **arrays, gender=gender)
    return folder


@pytest.fixture(scope="module")
def models(bodies):
    return lambda gender: load_model(bodies, gender=gender, dtype=torch.float64)


def cameras(rng: np.random.Generator, n: int = T) -> np.ndarray:
    """(n, 4, 4) extrinsics of a camera that moves."""
    motion = np.tile(np.eye(4), (n, 1, 1))
    motion[:, :3, :3] = Rotation.random(n, random_state=int(rng.integers(100))).as_matrix()
    motion[:, :3, 3] = rng.normal(size=(n, 3)) + np.array([0, 0, 4])
    return motion


def person(rng: np.random.Generator, model, n: int = T) -> dict[str, np.ndarray]:
    """World parameters of n frames, and the joints and vertices that they pose."""
    poses, trans, betas = 0.4 * rng.normal(size=(n, 72)), rng.normal(size=(n, 3)), rng.normal(size=10)
    given = {"betas": np.tile(betas, (n, 1)), "body_pose": poses[:, 3:], "global_orient": poses[:, :3], "transl": trans}
    out = model(**{k: torch.tensor(v) for k, v in given.items()})
    found = {"poses": poses, "trans": trans, "betas": betas}
    return found | {"joints": out.joints.numpy(), "vertices": out.vertices.numpy()}


def moved(cameras: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World points in each frame's camera axes."""
    return np.einsum("tij,tkj->tki", cameras[:, :3, :3], points) + cameras[:, None, :3, 3]


def threedpw(models) -> dict[str, Any]:
    """A dict as sequenceFiles/*/*.pkl holds it, of two people."""
    rng = np.random.default_rng(0)
    people = [person(rng, models(gender)) for gender in ("male", "female")]
    valid = [np.ones(T, bool), np.array([1, 1, 0, 1, 0, 1])]
    extrinsics = cameras(rng)
    return {
        "sequence": "courtyard_test_00",
        "genders": ["m", "f"],
        "betas": [np.concatenate([p["betas"], rng.normal(size=290)]) for p in people],
        "betas_clothed": [p["betas"] for p in people],
        "poses": [p["poses"] for p in people],
        "trans": [p["trans"] for p in people],
        "poses_60Hz": [np.repeat(p["poses"], 2, 0) for p in people],
        "trans_60Hz": [np.repeat(p["trans"], 2, 0) for p in people],
        "jointPositions": [p["joints"].reshape(T, 72) for p in people],
        "poses2d": [rng.uniform(0, 1000, (T, 3, 18)) for _ in people],
        "cam_poses": extrinsics,
        "cam_intrinsics": np.array([[1900.0, 0, 540], [0, 1900, 960], [0, 0, 1]]),
        "campose_valid": valid,
        "img_frame_ids": np.arange(0, 2 * T, 2),
        "texture_maps": [],
        "v_template_clothed": [p["vertices"][0] for p in people],
    }


def emdb(models) -> dict[str, Any]:
    """A dict as P*/*/*_data.pkl holds it."""
    rng = np.random.default_rng(1)
    one = person(rng, models("female"))
    return {
        "gender": "female",
        "name": "P9_99_test",
        "emdb1": True,
        "emdb2": False,
        "n_frames": T,
        "good_frames_mask": np.array([1, 1, 1, 1, 1, 0], bool),
        "camera": {
            "intrinsics": np.array([[1500.0, 0, 720], [0, 1500, 960], [0, 0, 1]]),
            "extrinsics": cameras(rng),
            "width": 1440,
            "height": 1920,
        },
        "smpl": {
            "poses_root": one["poses"][:, :3],
            "poses_body": one["poses"][:, 3:],
            "trans": one["trans"],
            "betas": one["betas"],
        },
        "kp2d": rng.uniform(0, 1000, (T, 24, 2)),
        "bboxes": {"bboxes": rng.uniform(0, 9, (T, 4)), "invalid_idxs": np.array([5])},
        "world": one["joints"],  # not in real files, for the test
    }


def write(path: Path, value: Any) -> Path:
    path.write_bytes(python2_pickle(value) if path.name.startswith("py2") else pickle.dumps(value, 2))
    return path


# ---------------------------------------------------------------- 3DPW


@pytest.mark.parametrize("name", ["py2.pkl", "py3.pkl"])
def test_3dpw_parameters_land_before_the_camera(tmp_path, models, name):
    """Joints of the returned parameters are the camera's motion of the file's own, whoever knows where a body rests."""
    data = threedpw(models)
    path = write(tmp_path / name, data)
    for given in (None, models):
        people = evaluate.read_3dpw(path, models=given)
        assert [(p.gender, p.person, p.name) for p in people] == [
            ("male", 0, "courtyard_test_00"),
            ("female", 1, "courtyard_test_00"),
        ]
        for i, found in enumerate(people):
            valid = np.asarray(data["campose_valid"][i], bool)
            expected = moved(data["cam_poses"], data["jointPositions"][i].reshape(T, 24, 3))
            np.testing.assert_array_equal(found.valid, valid)
            np.testing.assert_allclose(found.joints3d[valid], expected[valid], atol=ROUNDING_M)
            assert np.isnan(found.joints3d[~valid]).all()
            joints = models(found.gender)(**found.params).joints.numpy()
            np.testing.assert_allclose(joints[valid], expected[valid], atol=ROUNDING_M)
            assert np.isnan(joints[~valid]).all()
            np.testing.assert_array_equal(found.params.betas[0], data["betas"][i][:10])
            np.testing.assert_array_equal(found.keypoints2d[:, 3], data["poses2d"][i][:, :, 3])
            assert (found.fps, found.axes, found.joint_set) == (30, "camera", "smpl24")
            assert found.images[5] == "imageFiles/courtyard_test_00/image_00005.jpg"


def test_frames_that_do_not_count_can_be_dropped(tmp_path, models):
    found = evaluate.read_3dpw(write(tmp_path / "s.pkl", threedpw(models)))[1]
    kept = found.only_valid()
    assert len(kept) == 4
    assert kept.frame.tolist() == [0, 1, 3, 5]
    assert kept.images == tuple(found.images[i] for i in (0, 1, 3, 5))
    assert np.isfinite(kept.joints3d).all()
    assert torch.isfinite(kept.params.transl).all()
    np.testing.assert_array_equal(kept.joints3d, found.joints3d[[0, 1, 3, 5]])


def test_damaged_3dpw_files_are_refused_by_name(tmp_path, models):
    def changed(**parts: Any) -> dict[str, Any]:
        return threedpw(models) | parts

    good = threedpw(models)
    mirror = good["cam_poses"] * np.array([[-1], [1], [1], [1]])
    for name, data, says in (
        ("keys", {k: v for k, v in good.items() if k != "cam_poses"}, "lacks cam_poses"),
        ("intrinsics", {k: v for k, v in good.items() if k != "cam_intrinsics"}, "cam_intrinsics"),
        ("people", changed(genders=["m"]), "genders"),
        ("gender", changed(genders=["m", "x"]), "gender"),
        ("frames", changed(cam_poses=good["cam_poses"][:5]), "cam_poses"),
        ("mirror", changed(cam_poses=mirror), "rigid"),
        ("scaled", changed(cam_poses=2 * good["cam_poses"]), "rigid"),
        ("millimetres", changed(jointPositions=[1e3 * j for j in good["jointPositions"]]), "metres"),
        ("bodies", changed(trans=good["trans"][::-1]), "one body"),
        ("ragged", changed(poses=[[[1.0], [1.0, 2.0]], [[1.0]]]), "poses"),
    ):
        path = write(tmp_path / f"{name}.pkl", data)
        with pytest.raises(AssetError, match=says) as caught:
            evaluate.read_3dpw(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("make", [threedpw, emdb])
def test_strange_values_end_in_an_error_of_ours(tmp_path, models, make):
    """Whatever stands where an array should: the reader takes it or says what it is, with the file's name."""
    good = make(models)
    strange: tuple[Any, ...] = (None, 3, "text", [], [[]], {}, [None, {}], np.zeros(0), np.full((2, 2), np.nan))
    for key in good:
        for i, value in enumerate(strange):
            path = write(tmp_path / f"{key}{i}.pkl", good | {key: value})
            told = path.name
            try:
                read_annotations(path, models=models)
            except AssetError as error:
                told = str(error)
            assert path.name in told


def test_the_models_gender_is_the_annotations(tmp_path, models):
    path = write(tmp_path / "s.pkl", threedpw(models))
    with pytest.raises(OptionError, match="male"):
        evaluate.read_3dpw(path, models=models("neutral"))


def test_the_callers_model_stays_as_it_is(tmp_path, bodies, models):
    mine = load_model(bodies, gender="female")
    evaluate.read_emdb(write(tmp_path / "e.pkl", emdb(models)), models=mine)
    assert mine.dtype == torch.float32


# ---------------------------------------------------------------- EMDB


def test_emdb_parameters_land_before_the_camera(tmp_path, models):
    data = emdb(models)
    found = evaluate.read_emdb(write(tmp_path / "P9_99_test_data.pkl", data), models=models)
    expected = moved(data["camera"]["extrinsics"], data["world"])
    np.testing.assert_allclose(found.joints3d, expected, atol=ROUNDING_M)
    np.testing.assert_allclose(models("female")(**found.params).joints, expected, atol=ROUNDING_M)
    np.testing.assert_array_equal(found.valid, data["good_frames_mask"])
    np.testing.assert_array_equal(found.keypoints2d[..., :2], data["kp2d"])
    assert (found.name, found.gender, found.fps, found.keypoints2d_layout) == ("P9_99_test", "female", 30, "smpl24")
    assert found.images[2] == "images/00002.jpg"


def test_emdb_needs_its_body(tmp_path, models):
    path = write(tmp_path / "e_data.pkl", emdb(models))
    with pytest.raises(OptionError, match="female SMPL body"):
        evaluate.read_emdb(path, models=None)
    broken = emdb(models)
    del broken["smpl"]["trans"]
    with pytest.raises(AssetError, match="trans"):
        evaluate.read_emdb(write(tmp_path / "b.pkl", broken), models=models)


# ---------------------------------------------------------------- AGORA


def agora_arrays(n_j: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "imgPath": np.array([f"ag_{i // 2}.png" for i in range(5)]),
        "gender": np.array(["male", "female", "female", "male", "female"]),
        "isValid": np.array([True, True, False, True, True]),
        "occlusion": np.array([0.0, 12, 95, 40, 3]),
        "gt_joints_2d": rng.uniform(0, 2000, (5, n_j, 2)),
        "gt_joints_3d": rng.normal(scale=0.3, size=(5, n_j, 3)) + np.array([0, 0, 9]),
        "gt_verts": rng.normal(scale=0.3, size=(5, 30, 3)) + np.array([0, 0, 9]),
    }


@pytest.mark.parametrize(("n_j", "joints"), [(24, 24), (45, 24), (127, 22)])
def test_agora_exports(tmp_path, n_j, joints):
    arrays = agora_arrays(n_j)
    np.savez(tmp_path / "validation_0.npz", **arrays)
    found = evaluate.read_agora(tmp_path / "validation_0.npz")
    np.testing.assert_array_equal(found.joints3d, arrays["gt_joints_3d"][:, :joints])
    np.testing.assert_array_equal(found.valid, arrays["isValid"])
    np.testing.assert_array_equal(found.vertices, arrays["gt_verts"])
    assert found.joint_set == f"smpl{joints}"
    assert (found.gender, found.fps, found.images[4]) == ("mixed", None, "ag_2.png")


def test_agora_tables_are_not_run_and_the_way_out_is_told(tmp_path):
    """A pickle that begins as pandas writes a table: its class by name."""
    path = tmp_path / "validation_0_withjv.pkl"
    path.write_bytes(b"\x80\x02cpandas.core.frame\nDataFrame\n)\x81}b.")
    for read in (evaluate.read_agora, read_annotations):
        with pytest.raises(AssetError, match="pandas table") as caught:
            read(path)
        assert evaluate.AGORA_EXPORT in str(caught.value)


def test_the_export_program_makes_what_is_read(tmp_path, monkeypatch):
    """Run with a stand-in for pandas, whose table is rows of named lists."""
    import sys
    from types import ModuleType, SimpleNamespace

    arrays = agora_arrays()
    rows = [
        SimpleNamespace(
            imgPath=f"ag_{k}.png",
            **{c: list(values[s]) for c, values in arrays.items() if c not in ("imgPath", "gt_verts")},
        )
        for k, s in ((0, slice(0, 2)), (1, slice(2, 4)), (2, slice(4, 5)))
    ]
    stand_in = ModuleType("pandas")
    stand_in.read_pickle = lambda name: SimpleNamespace(itertuples=lambda: iter(rows))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    monkeypatch.chdir(tmp_path)
    exec(evaluate.AGORA_EXPORT.replace("; ", "\n"), {})
    found = evaluate.read_agora(tmp_path / "validation_0.npz")
    np.testing.assert_array_equal(found.joints3d, arrays["gt_joints_3d"])
    np.testing.assert_array_equal(found.keypoints2d[..., :2], arrays["gt_joints_2d"])
    np.testing.assert_array_equal(found.valid, arrays["isValid"])
    assert found.images == tuple(arrays["imgPath"])


# ---------------------------------------------------------------- H36M


def h36m_arrays(n_j: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    S = np.ones((4, n_j, 4))
    S[..., :3] = rng.normal(scale=0.4, size=(4, n_j, 3))
    S[1, 5, 3] = 0
    return {
        "imgname": np.array([f"images/S9_Directions.{c}_000001.jpg" for c in (54138969, 60457274, 60457274, 58860488)]),
        "center": rng.uniform(0, 1000, (4, 2)),
        "scale": np.ones(4),
        "part": rng.uniform(0, 1000, (4, n_j, 3)),
        "S": S,
    }


def test_h36m_pictures(tmp_path):
    arrays = h36m_arrays()
    np.savez(tmp_path / "h36m_valid_protocol1.npz", **arrays)
    (found,) = evaluate.read_h36m(tmp_path / "h36m_valid_protocol1.npz")
    assert found.joint_set == "h36m17"
    rows = [14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6]  # of its 24, in H36M's order
    known, points = arrays["S"][:, rows, 3] > 0, arrays["S"][:, rows, :3]
    np.testing.assert_array_equal(found.joints3d[known], points[known])
    assert np.isnan(found.joints3d[1, rows.index(5)]).all()
    assert np.isnan(found.joints3d).sum() == 3
    (frontal,) = evaluate.read_h36m(tmp_path / "h36m_valid_protocol1.npz", camera="60457274")
    np.testing.assert_array_equal(frontal.joints3d, found.joints3d[1:3])
    assert frontal.frame.tolist() == [1, 2]
    with pytest.raises(AssetError, match="no picture"):
        evaluate.read_h36m(tmp_path / "h36m_valid_protocol1.npz", camera="99")
    np.savez(tmp_path / "h17.npz", **h36m_arrays(17))
    assert evaluate.read_h36m(tmp_path / "h17.npz")[0].joint_set == "h36m17"
    np.savez(tmp_path / "mm.npz", **(arrays | {"S": arrays["S"] * [1e3, 1e3, 1e3, 1]}))
    with pytest.raises(AssetError, match="metres"):
        evaluate.read_h36m(tmp_path / "mm.npz")


def test_h36m_positions_are_read_without_running_them(tmp_path):
    """positions_3d is an array of one Python object: numpy's pickle of a dict of dicts of arrays."""
    rng = np.random.default_rng(4)
    positions = {
        s: {a: rng.normal(scale=0.4, size=(5, 32, 3)).astype(np.float32) for a in ("Walking", "Eating 1")}
        for s in ("S9", "S11")
    }
    path = tmp_path / "data_3d_h36m.npz"
    np.savez_compressed(path, positions_3d=np.array(positions, dtype=object))
    found = evaluate.read_h36m(path)
    assert [f.name for f in found] == ["S9/Walking", "S9/Eating 1", "S11/Walking", "S11/Eating 1"]
    rows = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    np.testing.assert_array_equal(found[3].joints3d, positions["S11"]["Eating 1"][:, rows].astype(np.float64))
    assert (found[0].fps, found[0].axes, found[0].joint_set) == (50, "world", "h36m17")
    with pytest.raises(OptionError, match="no camera"):
        evaluate.read_h36m(path, camera="60457274")


class _Hostile:
    def __reduce__(self):
        return (eval, ("1 / 0",))


def test_hostile_positions_are_refused(tmp_path):
    path = tmp_path / "data_3d_h36m.npz"
    np.savez(path, positions_3d=np.array({"S9": _Hostile()}, dtype=object))
    with pytest.raises(AssetError, match="refused the name") as caught:
        evaluate.read_h36m(path)
    assert "data_3d_h36m.npz" in str(caught.value)
    assert "value.pkl" not in str(caught.value)
    np.savez(path, positions_3d=np.zeros((3, 32, 3)))
    with pytest.raises(AssetError, match="one pickled dict"):
        evaluate.read_h36m(path)
    whole = io.BytesIO()
    np.savez(whole, positions_3d=np.array({"S9": {"Walking": np.zeros((3, 32, 3))}}, dtype=object))
    for cut in range(0, len(whole.getvalue()), 97):
        path.write_bytes(whole.getvalue()[:cut])
        with pytest.raises(AssetError):
            evaluate.read_h36m(path)


def test_other_files_are_not_annotations(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    for read in (read_annotations, evaluate.read_3dpw, evaluate.read_h36m, evaluate.read_agora):
        with pytest.raises(AssetError, match=r"a\.npz"):
            read(tmp_path / "a.npz")


# ---------------------------------------------------------------- bodyfit eval


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def scores(out: str) -> dict[str, dict[str, Any]]:
    return {s["metric"]: s for s in json.loads(out)["scores"]}


def _one_error(err: str, says: str) -> None:
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1, err
    assert says in err


def test_eval_of_joints(run, tmp_path):
    truth = np.random.default_rng(5).normal(scale=0.4, size=(6, 24, 3))
    pred = truth + np.array([0.003, 0.004, 0])
    pred[4] = np.nan
    np.save(tmp_path / "truth.npy", truth)
    np.savez(tmp_path / "pred.npz", joints=pred)
    files = (tmp_path / "pred.npz", tmp_path / "truth.npy")
    code, out, _ = run("eval", *files, "--root", "none", "--json", "--metric", "mpjpe", "--metric", "pck50")
    assert code == 0
    facts = json.loads(out)
    assert (facts["root"], facts["joints"], facts["items"]) == ("none", "smpl24", 6)
    mpjpe = scores(out)["mpjpe"]
    assert mpjpe == {"metric": "mpjpe", "value": 5.0, "unit": "mm", "counted": 5, "failed": 1, "without_truth": 0}
    assert scores(out)["pck@50mm"]["value"] == pytest.approx(100 * 5 / 6, rel=1e-5)
    code, out, _ = run("eval", *files)
    assert code == 0
    for word in ("mpjpe", "pa_mpjpe", "mm", "smpl24", "root pelvis", "failed", "6 items"):
        assert word in out
    np.save(tmp_path / "none.npy", np.full((6, 24, 3), np.nan))
    code, out, err = run("eval", tmp_path / "none.npy", files[1])
    assert (code, err) == (1, "")
    assert "none" in out


def test_eval_of_parameters_and_vertices(run, tmp_path, bodies):
    """The same bodies 10 cm further along: no error about a root, 100 mm without, on joints and on vertices."""
    model = load_model(bodies, dtype=torch.float64)
    here = bodyfit.random_bodies(4, model=model, seed=0)
    save_params(here, tmp_path / "truth.npz", fps=30.0)
    there = model.params(**{**here, "transl": here.transl + torch.tensor([0.06, 0, 0.08])})
    save_params(there, tmp_path / "pred.npz")
    command = ["eval", tmp_path / "pred.npz", tmp_path / "truth.npz", "--json", "--pred-model", bodies]
    command += [o for m in ("mpjpe", "pa_mpjpe", "pve", "pa_pve", "accel", "jitter") for o in ("--metric", m)]
    code, out, err = run(*command, "--truth-model", bodies)
    assert (code, err) == (0, "")
    assert all(scores(out)[m]["value"] < 1e-3 for m in ("mpjpe", "pa_mpjpe", "pve", "pa_pve"))
    assert scores(out)["acceleration_error"]["unit"] == "m/s^2"
    assert scores(out)["jitter of prediction"]["value"] == pytest.approx(scores(out)["jitter of truth"]["value"])
    code, out, err = run(*command, "--truth-model", bodies, "--root", "none")
    assert scores(out)["mpjpe"]["value"] == pytest.approx(100, rel=1e-4)
    assert scores(out)["pve"]["value"] == pytest.approx(100, rel=1e-4)
    assert scores(out)["pa_pve"]["value"] < 1e-3
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    _one_error(err, "model")


def test_eval_against_3dpw(run, tmp_path, models, bodies):
    """A prediction that is the file's truth scores 0 on the frames that count, given for all frames or for these."""
    data = threedpw(models)
    path = write(tmp_path / "s.pkl", data)
    joints = moved(data["cam_poses"], data["jointPositions"][1].reshape(T, 24, 3))
    np.save(tmp_path / "all.npy", joints)
    valid = np.asarray(data["campose_valid"][1], bool)
    np.save(tmp_path / "valid.npy", joints[valid])
    code, out, _ = run("eval", tmp_path / "all.npy", path, "--person", 1, "--json", "--root", "none")
    assert code == 0
    assert scores(out)["mpjpe"]["value"] < 1e-6
    assert [scores(out)["mpjpe"][k] for k in ("counted", "failed", "without_truth")] == [4, 0, 2]
    code, out, _ = run("eval", tmp_path / "valid.npy", path, "--person", 1, "--json")
    assert [scores(out)["mpjpe"][k] for k in ("counted", "failed", "without_truth")] == [4, 0, 0]
    code, _, err = run("eval", tmp_path / "valid.npy", path, "--person", 1, "--metric", "accel")
    assert code == 2
    _one_error(err, "frames left out")
    np.save(tmp_path / "lsp.npy", joints[:, :15])
    for pred, more, says in (
        ("valid.npy", ["--person", 2], "no 2"),
        ("valid.npy", [], "items"),
        ("lsp.npy", ["--joints", "lsp14"], "smpl24 and not lsp14"),
    ):
        code, out, err = run("eval", tmp_path / pred, path, *more)
        assert (code, out) == (2, "")
        _one_error(err, says)


def test_eval_with_a_regressor(run, tmp_path, models, bodies):
    """The 14 joints and the pelvis are rows of the regressor times posed vertices, in the customary order."""
    data = threedpw(models)
    path = write(tmp_path / "s.pkl", data)
    vertices = len(load_model(bodies).v_template)
    regressor = np.random.default_rng(6).dirichlet(np.ones(vertices), 17)
    np.save(tmp_path / "J_regressor_h36m.npy", regressor)
    found = evaluate.read_3dpw(path)[0]
    posed = models("male")(**found.params).vertices.numpy()
    regressed = np.einsum("kv,tvc->tkc", regressor, posed)
    order = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
    np.save(tmp_path / "pred.npy", regressed[:, order] + 1.0)
    common = ["eval", tmp_path / "pred.npy", path, "--joints", "3dpw14", "--truth-model", bodies, "--json"]
    code, out, _ = run(*common, "--root", "mid_hip", "--regressor", tmp_path / "J_regressor_h36m.npy")
    assert code == 0
    assert scores(out)["mpjpe"]["value"] < 1e-6
    assert "regressed" in json.loads(out)["truth"]["points"]
    code, _, err = run(*common, "--root", "pelvis", "--regressor", tmp_path / "J_regressor_h36m.npy")
    assert code == 2
    _one_error(err, "mid_hip")  # 14 joints have no pelvis
    np.save(tmp_path / "pred.npy", regressed[:, [*order, 0]] + 1.0)
    code, out, _ = run(*common, "--root", "pelvis", "--regressor", tmp_path / "J_regressor_h36m.npy")
    assert code == 0
    assert scores(out)["mpjpe"]["value"] < 1e-6
    code, out, _ = run(*common, "--root", "mid_hip")
    assert code == 0  # without one they are other points, and the report says so
    assert scores(out)["mpjpe"]["value"] > 1
    assert "keypoints of" in json.loads(out)["truth"]["points"]
    np.save(tmp_path / "other.npy", np.full((17, 10), 0.1))
    code, _, err = run(*common, "--root", "mid_hip", "--regressor", tmp_path / "other.npy")
    assert code == 2
    _one_error(err, "10 vertices")


def test_eval_against_emdb_agora_and_h36m(run, tmp_path, models, bodies):
    data = emdb(models)
    path = write(tmp_path / "e.pkl", data)
    np.save(tmp_path / "e.npy", moved(data["camera"]["extrinsics"], data["world"]))
    some = ["--json", "--metric", "mpjpe", "--metric", "accel_frame", "--metric", "jitter", "--metric", "auc"]
    code, out, _ = run("eval", tmp_path / "e.npy", path, "--truth-model", bodies, "--joints", "emdb24", *some)
    assert code == 0
    assert scores(out)["mpjpe"]["value"] < 1e-6
    assert scores(out)["mpjpe"]["without_truth"] == 1
    assert scores(out)["auc@0-200mm"]["value"] > 97
    assert json.loads(out)["frames_per_second"] == 30
    np.savez(tmp_path / "agora.npz", **agora_arrays())
    np.save(tmp_path / "a.npy", agora_arrays()["gt_joints_3d"])
    code, out, _ = run("eval", tmp_path / "a.npy", tmp_path / "agora.npz", "--json")
    assert (code, scores(out)["pa_mpjpe"]["counted"]) == (0, 4)
    code, _, err = run("eval", tmp_path / "a.npy", tmp_path / "agora.npz", "--metric", "jitter")
    assert code == 2
    _one_error(err, "fps")
    positions = np.random.default_rng(7).normal(size=(5, 32, 3))
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array({"S9": {"Walking": positions}}, dtype=object))
    rows = [REGRESSOR_ROWS.index(n) for n in evaluate.joint_set("h36m14").names]
    assert len(rows) == 14
    np.save(tmp_path / "h.npy", np.random.default_rng(8).normal(size=(5, 14, 3)))
    h36m = ["eval", tmp_path / "h.npy", tmp_path / "data_3d_h36m.npz", "--joints", "h36m14", "--root", "mid_hip"]
    code, out, _ = run(*h36m, "--metric", "pa_mpjpe", "--json")
    assert (code, scores(out)["pa_mpjpe"]["counted"]) == (0, 5)
    code, _, err = run(*h36m, "--metric", "mpjpe")
    assert code == 2
    _one_error(err, "world axes")


def test_eval_of_a_fit(run, tmp_path):
    """A fit needs no model named for its joints, and knows its own for vertices."""
    model = bodyfit.load_model("open")
    bodies = bodyfit.random_bodies(2, model=model, seed=1)
    before = model.params(
        **{**bodies, "global_orient": torch.tensor([[3.1, 0, 0]] * 2), "transl": torch.tensor([[0.0, 0, 3]] * 2)}
    )
    joints = model.joints(before)
    xy = joints[..., :2] / joints[..., 2:] * 1000 + 500
    xyc = torch.cat([xy, torch.ones(2, 24, 1)], 2)
    result = bodyfit.fit_keypoints(xyc, layout="smpl24", image_size=(1000, 1000), focal_px=1000.0, model=model)
    bodyfit.save(result, tmp_path / "fit.npz")
    np.save(tmp_path / "truth.npy", joints.numpy())
    save_params(before, tmp_path / "truth.npz")
    code, out, _ = run("eval", tmp_path / "fit.npz", tmp_path / "truth.npy", "--json")
    assert code == 0
    expected = evaluate.pa_mpjpe(result.joints, joints).mean
    assert scores(out)["pa_mpjpe"]["value"] == pytest.approx(expected, rel=1e-4)
    command = [
        "eval",
        tmp_path / "fit.npz",
        tmp_path / "truth.npz",
        "--truth-model",
        "open",
        "--metric",
        "pve",
        "--json",
    ]
    code, out, _ = run(*command)
    assert (code, scores(out)["pve"]["counted"]) == (0, 2)


def test_wrong_use_of_eval_ends_with_2_and_one_line(run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 24, 3)))
    np.save(tmp_path / "y.npy", np.zeros((3, 24, 3)))
    np.save(tmp_path / "z.npy", np.zeros((2, 5, 3)))
    (tmp_path / "text.npz").write_text("hello")
    x = tmp_path / "x.npy"
    for arguments, says in (
        ([x, tmp_path / "y.npy"], "2 items and the truth 3"),
        ([x, tmp_path / "z.npy"], "5 joints"),
        ([x, tmp_path / "missing.npz"], "missing.npz"),
        ([x, tmp_path / "text.npz"], "text.npz"),
        ([x, x, "--metric", "mpjpe2"], "--metric"),
        ([x, x, "--root", "tail"], "tail"),
        ([x, x, "--joints", "smpl25"], "smpl25"),
        ([x, x, "--metric", "accel"], "accel_frame"),
        ([x, x, "--metric", "pve"], "vertices"),
        ([x, x, "--regressor", x], "regressor"),
        ([x], "--help"),
    ):
        code, out, err = run("eval", *arguments)
        assert (code, out) == (2, ""), arguments
        _one_error(err, says)


def test_help_of_eval_teaches(run):
    code, out, _ = run("eval", "--help")
    assert code == 0
    for word in ("Examples", "bodyfit eval fits.npz truth.npz", "--root", "Exit code", "3DPW"):
        assert word in out
