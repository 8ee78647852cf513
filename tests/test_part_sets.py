"""FreiHAND and EHF: their files in the layout that users have, and their papers' scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.part_sets import SMPLX_VERTICES, f_score, hand_scores, part_errors, read_ehf, read_freihand

N = 3


@pytest.fixture
def freihand(tmp_path) -> Path:
    """A folder in FreiHAND's layout, of blank pictures."""
    rng = np.random.default_rng(0)
    (tmp_path / "evaluation" / "rgb").mkdir(parents=True)
    for i in range(N):
        Image.new("RGB", (224, 224), (90, 120, 90)).save(tmp_path / "evaluation" / "rgb" / f"{i:08d}.jpg")
    K = np.tile([[480.0, 0, 112], [0, 480, 112], [0, 0, 1]], (N, 1, 1))
    xyz = 0.05 * rng.standard_normal((N, 21, 3)) + (0, 0, 0.7)
    for name, value in (("K", K), ("xyz", xyz), ("scale", np.full((N, 1), 0.03))):
        (tmp_path / f"evaluation_{name}.json").write_text(json.dumps(value.tolist()))
    return tmp_path


@pytest.fixture
def ehf(tmp_path) -> Path:
    """A folder in EHF's layout: one person."""
    vertices = np.random.default_rng(1).standard_normal((SMPLX_VERTICES, 3))
    faces = np.array([[0, 1, 2], [SMPLX_VERTICES - 3, SMPLX_VERTICES - 2, SMPLX_VERTICES - 1]])
    trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / "01_align.ply")
    Image.new("RGB", (1600, 1200)).save(tmp_path / "01_img.jpg")
    (tmp_path / "01_2Djnt.json").write_text(json.dumps({"version": 1.2, "people": []}))
    return tmp_path


def test_freihands_files_are_read(freihand):
    data = read_freihand(freihand)
    assert [path.name for path in data.images] == [f"{i:08d}.jpg" for i in range(N)]
    assert data.K.shape == (N, 3, 3)
    assert data.xyz.shape == (N, 21, 3)
    assert data.scale_m.shape == (N,)


@pytest.mark.parametrize(
    ("name", "text"), [("xyz", "[[1, 2]]"), ("K", "no json"), ("scale", "[[0.03]]"), ("xyz", '["a"]')]
)
def test_faulty_files_of_freihand_are_named(freihand, name, text):
    (freihand / f"evaluation_{name}.json").write_text(text)
    with pytest.raises(AssetError, match=freihand.name):
        read_freihand(freihand)


def test_scores_of_hands():
    """A similarity costs nothing, known shifts of single points cost what the definitions say, lost hands all."""
    rng = np.random.default_rng(2)
    truth = 0.05 * rng.standard_normal((4, 21, 3))
    same = hand_scores(1.3 * truth @ Rotation.random(random_state=0).as_matrix().T + 0.4, truth)
    assert same["pa_mpjpe_mm"] < 1e-6
    assert same["auc"] == pytest.approx(1.0, abs=6e-3)
    assert (same["f_5"], same["f_15"]) == (1.0, 1.0)
    lost = truth.copy()
    lost[2:] = np.nan
    half = hand_scores(lost, truth)
    assert half["failed"] == 2
    assert half["pa_mpjpe_mm"] < 1e-6
    assert half["auc"] == pytest.approx(0.5, abs=6e-3)
    assert half["f_15"] == 0.5


def test_the_f_score_is_the_harmonic_mean_of_precision_and_recall():
    truth = np.arange(12.0).reshape(4, 3) * 100
    pred = np.concatenate([truth[:2], [[5000.0, 0, 0], [6000.0, 0, 0], [7000.0, 0, 0], [8000.0, 0, 0]]])
    assert f_score(pred, truth, 1.0) == pytest.approx(2 * (2 / 6) * (2 / 4) / (2 / 6 + 2 / 4))
    assert f_score(truth + 10, truth, 1.0) == 0.0


def test_ehfs_files_are_read(ehf):
    (item,) = read_ehf(ehf)
    assert item.vertices.shape == (SMPLX_VERTICES, 3)
    assert item.image.name == "01_img.jpg"
    (ehf / "01_2Djnt.json").unlink()
    with pytest.raises(AssetError, match="01_2Djnt"):
        read_ehf(ehf)


def test_ehf_asks_for_smplx(ehf, capsys):
    model = bodyfit.load_model("open-x")
    with pytest.raises(OptionError, match="SMPL-X"):
        part_errors(model, np.zeros((3, 3)), np.zeros((3, 3)))
    assert main(["eval", "ehf", str(ehf)]) == 2
    assert "SMPL-X file" in capsys.readouterr().err


def test_freihand_by_the_command(freihand, capsys):
    """Blank pictures show no hand: all fail, the command says so and does not."""
    assert main(["eval", "freihand", str(freihand), "--json"]) == 1
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["hands"] == scores["failed"] == N
    assert scores["auc"] == 0
