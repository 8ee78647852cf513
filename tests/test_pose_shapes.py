"""The open bodies' pose blend shapes: nothing at rest, symmetric, local; they give back lost volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bodyfit.body.assets import load_assets
from bodyfit.body.files.archive import asset_path
from bodyfit.body.model import BodyModel
from bodyfit.body.record import GENDERS, PoseBlocks
from bodyfit.skeleton import SMPL

F64 = torch.float64
TURNS_DEG = [
    ("elbow", (0, -120, 0)),
    ("elbow", (90, 0, 0)),
    ("elbow", (-90, 0, 0)),
    ("knee", (120, 0, 0)),
    ("hip", (-120, 0, 0)),
    ("hip", (0, 90, 0)),
    ("shoulder", (0, 0, -90)),
    ("shoulder", (0, -120, 0)),
    ("shoulder", (90, 0, 0)),
    ("wrist", (0, 0, -80)),
    ("wrist", (90, 0, 0)),
    ("wrist", (-90, 0, 0)),
    ("hand", (0, 0, -80)),
]
"""Of the left joint, about its axes of flexion and twist."""


def blocks_of(name: str, gender: str = "neutral") -> PoseBlocks:
    blocks = load_assets(name, gender=gender).posedirs
    assert isinstance(blocks, PoseBlocks)
    return blocks


@pytest.fixture(scope="module", params=GENDERS)
def models(request) -> tuple[BodyModel, BodyModel]:
    """Plain skinning, and skinning with the pose shapes."""
    assets = load_assets("open", gender=request.param)
    return BodyModel(replace(assets, posedirs=None), dtype=F64), BodyModel(assets, dtype=F64)


def volumes(model: BodyModel, turns: list[tuple[str, tuple[float, float, float]]]) -> torch.Tensor:
    """(B,) litres inside the closed skin; one joint turned in each body."""
    pose = torch.zeros(len(turns), 23, 3, dtype=F64)
    for row, (joint, turn) in enumerate(turns):
        pose[row, SMPL.index(joint) - 1] = torch.deg2rad(torch.tensor(turn, dtype=F64))
    a, b, c = model(body_pose=pose).vertices[:, model.faces].unbind(2)
    return (a * torch.linalg.cross(b, c)).sum((1, 2)) / 6 * 1000


@pytest.mark.parametrize("side", ["left", "right"])
def test_at_least_half_of_the_volume_that_skinning_loses_is_given_back(models, side):
    sign = np.array([1, 1, 1]) if side == "left" else np.array([1, -1, -1])
    turns = [(f"{side}_{joint}", tuple((turn * sign).tolist())) for joint, turn in TURNS_DEG]
    rest = volumes(models[0], [("pelvis", (0, 0, 0))])
    lost, left = (rest - volumes(model, turns) for model in models)
    assert (lost > 0.01).all(), "skinning loses volume in each of these poses"
    assert (left.abs() <= 0.5 * lost).all(), [
        f"{joint} {turn}: {1 - part:.0%}" for (joint, turn), part in zip(turns, (left / lost).tolist(), strict=True)
    ]


def test_the_rest_pose_is_the_template(models):
    plain, shaped = (model().vertices for model in models)
    assert torch.equal(plain, shaped)


def test_left_and_right_blocks_are_mirror_images():
    with np.load(asset_path("body", "open.npz")) as file:
        mirror, names = file["mirror"], [str(name) for name in file["joint_names"]]
        joint, vertex, block = (file[f"posedirs_{key}"] for key in ("joint", "vertex", "block"))
    swap = {"left": "right", "right": "left"}
    other = np.array([names.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in names])
    # The reflection S turns R into S R S and a correction d into S d.
    sign = np.array([-1, 1, 1])
    flipped = block * sign[:, None] * np.outer(sign, sign).ravel()
    order = np.lexsort((other[joint], mirror[vertex]))
    np.testing.assert_array_equal(mirror[vertex][order], vertex)
    np.testing.assert_array_equal(other[joint][order], joint)
    # Blocks are rounded to 2^-20 m after they were mirrored, and a half may round either way.
    np.testing.assert_allclose(flipped[order], block, atol=2.0**-20, rtol=0)


@pytest.mark.parametrize("name", ["open", "open-h", "open-x"])
def test_no_block_is_zero_or_twice_or_of_the_root(name):
    blocks = blocks_of(name)
    assert blocks.block.any((1, 2)).all()
    assert (blocks.joint > 0).all()
    pairs = np.stack([blocks.vertex, blocks.joint], 1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_shapes_are_local():
    """The hip's reach farthest, for its twist spreads over the thigh (52 cm); a vertex feels few joints."""
    assets, blocks = load_assets("open"), blocks_of("open")
    joints = assets.J_regressor @ assets.v_template
    away = np.linalg.norm(assets.v_template[blocks.vertex] - joints[blocks.joint], axis=1)
    assert away.max() < 0.55
    assert np.bincount(blocks.vertex).max() <= 8
