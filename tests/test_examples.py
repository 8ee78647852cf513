"""Every example of scripts/examples runs, on small inputs, and says and writes what it promises."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bodyfit

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "scripts" / "examples").glob("*.py"))


@pytest.fixture
def example(tables, tmp_path, capsys) -> Callable[..., str]:
    """Run an example's `main` with a folder to write to; gives what it printed."""

    def run(name: str, **inputs: Any) -> str:
        runpy.run_path(str(ROOT / "scripts" / "examples" / f"{name}.py"))["main"](tmp_path, **inputs)
        return capsys.readouterr().out

    return run


def numbers(text: str, before: str) -> list[float]:
    """The numbers that stand before a word."""
    return [float(number) for number in re.findall(rf"(\d+(?:\.\d+)?) {before}", text)]


def is_drawn(path: Path) -> bool:
    """Whether a picture is there and is not of one colour."""
    return float(np.asarray(Image.open(path).convert("RGB")).std()) > 5


def test_a_picture_gives_a_body_a_mesh_and_drawings(example, tmp_path):
    text = example("picture", picture=ROOT / "assets/samples/walking.jpg")
    (height_m,) = numbers(text, "m tall")
    assert 1.4 < height_m < 2.1
    assert max(numbers(text, "px off")) < 10
    assert is_drawn(tmp_path / "overlay.png")
    assert is_drawn(tmp_path / "top.png")
    assert (tmp_path / "person0.glb").read_bytes()[:4] == b"glTF"


def test_keypoints_of_ones_own_give_a_body(example, tmp_path):
    text = example("keypoints")
    assert text.startswith("converged")
    assert max(numbers(text, "px off")) < 8
    assert bodyfit.load_result(tmp_path / "person.npz").status[0].ok
    assert is_drawn(tmp_path / "overlay.png")


def test_three_cameras_are_nearer_than_one(example, tmp_path):
    one, three = numbers(example("cameras"), "mm off")
    assert three < 20
    assert three < one
    assert is_drawn(tmp_path / "side.png")


def test_a_detector_of_ones_own_is_used(example, tmp_path):
    text = example("detector")
    assert text.startswith("converged")
    assert max(numbers(text, "px")) < 10
    assert is_drawn(tmp_path / "overlay.png")


def test_a_residual_of_ones_own_straightens_the_knees(example, tmp_path):
    bent, straight = re.findall(r"bent (\d\.\d+) and (\d\.\d+) rad", example("residual"))
    assert max(map(float, straight)) < 0.1 < min(map(float, bent))
    assert is_drawn(tmp_path / "side.png")


@pytest.mark.slow
def test_a_clip_gives_animations_and_a_film(example, tmp_path):
    text = example("clip", frames=8)
    assert len(re.findall("8 frames", text)) == 2
    for person in (0, 1):
        assert (tmp_path / f"person{person}.glb").read_bytes()[:4] == b"glTF"
        assert len(bodyfit.load_track(tmp_path / f"person{person}.npz")) == 8
    assert sum(1 for _ in bodyfit.io.VideoReader(tmp_path / "side.mp4")) == 8


def test_the_page_shows_every_example():
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert set(re.findall(r'--8<-- "scripts/examples/(\w+)\.py"', page)) == set(EXAMPLES)
