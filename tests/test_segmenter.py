"""Masks of people by a trained network: what it is given, and its training."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bodyfit.keypoints import SoftMask
from bodyfit.skeleton import layout_names
from scripts.train import segmenter
from scripts.train.masks.inputs import SIDE, around, limbs_map, network_input, to_mask

NAMES = layout_names("coco17")


def standing(x: float, y: float, height: float) -> np.ndarray:
    """Keypoints of somebody who stands upright with their arms spread, (17, 3)."""
    parts = {
        "nose": (0, 0.05),
        "eye": (0.02, 0.03),
        "ear": (0.04, 0.05),
        "shoulder": (0.1, 0.18),
        "elbow": (0.25, 0.18),
        "wrist": (0.4, 0.18),
        "hip": (0.07, 0.5),
        "knee": (0.08, 0.75),
        "ankle": (0.08, 0.98),
    }
    rows = []
    for name in NAMES:
        across, down = parts[name.split("_")[-1]]
        rows.append((x + height * across * (-1 if name.startswith("right") else 1), y + height * down, 0.9))
    return np.array(rows)


def test_the_region_moves_and_grows_with_the_person() -> None:
    first, second = around(standing(50, 20, 100)), around(standing(2 * 50 + 7, 2 * 20 - 3, 200))
    assert first is not None
    assert second is not None
    assert np.allclose((second.x, second.y, second.size), (2 * first.x + 7, 2 * first.y - 3, 2 * first.size))
    nobody = standing(50, 20, 100)
    nobody[:, 2] = 0
    assert around(nobody) is None


def test_limbs_are_as_bright_as_they_are_sure_and_nowhere_else() -> None:
    person = standing(SIDE / 2, 20, 0.8 * SIDE)
    drawn = limbs_map([person], np.eye(2, 3))
    elbow, wrist = (person[NAMES.index(f"left_{part}"), :2] for part in ("elbow", "wrist"))
    x, y = ((elbow + wrist) / 2).astype(int)
    assert abs(drawn[y, x] - 0.9) < 0.15  # blurred a little
    assert drawn[y + SIDE // 8, x] == 0
    person[NAMES.index("left_wrist"), 2] = 0
    assert limbs_map([person], np.eye(2, 3))[y, x + SIDE // 20] == 0


@pytest.mark.parametrize("height", [60.0, 400.0])
def test_a_mask_comes_back_from_the_network_s_pixels(height: float) -> None:
    person = standing(300, 60, height)
    mask = np.zeros((520, 640), np.uint8)
    cv2.ellipse(mask, (300, int(60 + height / 2)), (int(0.2 * height), int(0.45 * height)), 0, 0, 360, 255, -1)
    roi = around(person)
    assert roi is not None
    inputs = network_input(np.dstack([mask] * 3), roi, person, [], SoftMask(mask, (0, 0)))
    assert np.abs(inputs[0] - inputs[5]).max() < 0.01  # the picture and the coarse mask are sampled at the same places
    back = to_mask(20 * (inputs[5] - 0.5), roi, (640, 520)).full((640, 520)) >= 128
    true = mask >= 128
    assert (back & true).sum() / (back | true).sum() > 0.97  # a pixel of the network's is up to 2.8 of the picture's


def scenes(folder: Path) -> Path:
    """Make a folder as `bodyfit scene` writes it, of two ellipses a picture."""
    for name in ("images", "masks", "scenes"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        picture = np.random.default_rng(i).integers(0, 255, (128, 128, 3)).astype(np.uint8)
        mask, records = np.zeros((128, 128), np.uint8), []
        for number, x in enumerate((35, 90)):
            cv2.ellipse(mask, (x, 64), (18, 50), 0, 0, 360, number + 1, -1)
            points = standing(x, 14, 96)
            points[:, 2] = 2
            keypoints = (points - (0.5, 0.5, 0)).ravel().tolist()
            records.append(
                {"person": number, "bbox": [x - 18, 14, 37, 101], "num_keypoints": 17, "keypoints": keypoints}
            )
        cv2.imwrite(str(folder / "images" / f"{i:06d}.jpg"), picture)
        cv2.imwrite(str(folder / "masks" / f"{i:06d}.png"), mask)
        (folder / "scenes" / f"{i:06d}.json").write_text(json.dumps({"annotations": records}))
    return folder


def test_training_that_was_stopped_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = scenes(tmp_path / "data")
    found = {}

    def exported(network: torch.nn.Module, path: Path) -> None:
        found[path.parent.name] = network.state_dict()

    def run(work: str) -> None:
        options = ["--data", str(data), "--samples", "8", "--batch", "2", "--every", "2"]
        monkeypatch.setattr("sys.argv", ["segmenter", str(tmp_path / work), *options])
        segmenter.main()

    monkeypatch.setattr(segmenter, "export", exported)
    run("whole")
    usual = segmenter.validate

    def stopped(*args: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenter, "validate", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("halves")
    monkeypatch.setattr(segmenter, "validate", usual)
    run("halves")
    for name, value in found["whole"].items():
        assert torch.allclose(value, found["halves"][name], atol=1e-6), name
