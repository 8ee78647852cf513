"""Hands and faces from near: each tile shows its own part, at its own scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from PIL import Image
from shown_results import result_of

from bodyfit.body.model import BodyModel, load_model
from bodyfit.cli.main import main
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera
from bodyfit.io import save
from bodyfit.render import INSETS, draw_insets, inset_parts

SIZE = (400, 300)
GREY = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_model("open-x")


def standing(body: BodyModel, x_m: float = 0.0, z_m: float = 2.5) -> torch.Tensor:
    """Upright before the camera, arms out to the sides, the upper body in the picture."""
    with torch.no_grad():
        return body(global_orient=torch.tensor([[math.pi, 0.0, 0.0]]), transl=torch.tensor([[x_m, 0.3, z_m]])).vertices[
            0
        ]


def picture() -> np.ndarray:
    grey = np.random.default_rng(0).integers(0, 80, (*SIZE[::-1], 1), dtype=np.uint8)
    return grey.repeat(3, 2)


def test_every_tile_shows_its_part_in_the_middle(body):
    """Parts are painted by their names; where the tile's middle is, its colour is, and no other part's is in it."""
    parts = inset_parts(body)
    assert tuple(parts.rows) == INSETS
    colors = torch.full((len(body.v_template), 3), 0.5)
    for k, rows in enumerate(parts.rows.values()):
        colors[rows] = torch.eye(3)[k]
    drawn = draw_insets(picture(), [(standing(body), colors)], body.faces, Camera.make(1, SIZE, focal_px=400.0), parts)
    assert drawn is not None
    assert drawn.shape == (320, 6 * 320 + 5 * 8, 3)
    for k in range(3):
        photo, tile = (drawn[:, x : x + 320].astype(int) for x in (656 * k, 656 * k + 328))
        assert photo.max() < 130  # the photograph alone, resampled
        own = (tile[..., k] > 60) & (np.delete(tile, k, 2).max(2) < 0.6 * tile[..., k])
        others = [(tile[..., c] > 60) & (np.delete(tile, c, 2).max(2) < 0.6 * tile[..., c]) for c in range(3) if c != k]
        rows, columns = own.nonzero()
        assert own.mean() > 0.05
        assert abs(rows.mean() - 160) < 70
        assert abs(columns.mean() - 160) < 60
        assert max(other.mean() for other in others) < 1e-3


def test_parts_that_cannot_be_seen_have_no_tiles(body):
    parts = inset_parts(body)
    camera = Camera.make(1, SIZE, focal_px=400.0)
    far = [(standing(body, z_m=60.0), GREY)]
    assert draw_insets(picture(), far, body.faces, camera, parts) is None
    behind = [(standing(body, z_m=-2.0), GREY)]
    assert draw_insets(picture(), behind, body.faces, camera, parts) is None
    # The left hand of a body far to the left lies outside on no side, the right one does.
    aside = [(standing(body, x_m=-0.9), GREY)]
    drawn = draw_insets(picture(), aside, body.faces, camera, parts)
    assert drawn is not None
    assert (drawn[:, 656:1304] == 235).mean() > 0.97  # but for the gap
    assert (drawn[:, 1312:] == 235).mean() < 0.5
    two = [*far, (standing(body), GREY)]
    drawn = draw_insets(picture(), two, body.faces, camera, parts)
    assert drawn is not None
    assert drawn.shape[0] == 320  # a row for the one that can be seen
    with pytest.raises(OptionError, match="camera is for a picture of"):
        draw_insets(picture()[:100], two, body.faces, camera, parts)


@pytest.mark.parametrize(("kind", "parts"), [("smpl", ()), ("smplh", INSETS[1:]), ("smplx", INSETS)])
def test_bodies_have_the_parts_of_their_joints(kind, parts):
    model = BodyModel(tiny_assets(kind))
    assert tuple(inset_parts(model).rows) == parts


def test_eyes_show_where_they_look(body):
    """The iris is in the middle of the eye and goes where it is turned to."""
    parts = inset_parts(body)
    white, iris = parts.eyes.values()
    assert iris[white].float().mean() < 0.4
    assert not (iris & ~white).any()
    middles = []
    for look in ([0.0, 0.0, 0.0], [0.0, 0.4, 0.0], [0.3, 0.0, 0.0]):
        eyes = torch.tensor([look])
        vertices = body(leye_pose=eyes, reye_pose=eyes).vertices[0]
        left = white & (body.v_template[:, 0] > 0)
        middles.append((vertices[left & iris].mean(0) - vertices[left].mean(0)).numpy())
    ahead, left, down = middles
    assert ahead[2] > 0.8 * np.linalg.norm(ahead)
    assert (left - ahead)[0] > 4e-3
    assert (down - ahead)[1] < -3e-3


def test_render_draws_insets_of_bodies_that_have_hands(tmp_path, body, capsys):
    photo = Image.fromarray(np.full((240, 320, 3), 90, np.uint8))
    photo.save(tmp_path / "photo.png")
    for name in ("open", "open-x"):
        model = body if name == "open-x" else load_model(name)
        params = model.params(global_orient=torch.tensor([[math.pi, 0.0, 0.0]]), transl=torch.tensor([[0.0, 0.3, 2.0]]))
        save(result_of(model, params, name=name), tmp_path / name / "person0.npz")
    arguments = ["--view", "insets", "--photo", str(tmp_path / "photo.png")]
    assert main(["render", str(tmp_path / "open-x"), "-o", str(tmp_path / "near.png"), *arguments]) == 0
    assert Image.open(tmp_path / "near.png").size == (6 * 320 + 5 * 8, 320)
    assert main(["render", str(tmp_path / "open"), "-o", str(tmp_path / "far.png"), *arguments]) == 1
    assert "insets are of hands and faces, which open has not; fit open-h or open-x" in capsys.readouterr().err
