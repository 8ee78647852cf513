"""The mesh-exact check against spheres of known depth and bodies whose parts touch or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

import bodyfit
from bodyfit.errors import OptionError, ShapeError

RADIUS = 0.1


def two_spheres(apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two spheres of 10 cm, their centres `apart` along x."""
    ball = trimesh.creation.icosphere(4, radius=RADIUS)
    vertices = np.concatenate([ball.vertices, ball.vertices + np.array([apart, 0, 0])])
    return torch.tensor(vertices)[None], torch.tensor(np.concatenate([ball.faces, ball.faces + len(ball.vertices)]))


@pytest.mark.parametrize("overlap", [0.001, 0.02, 0.05])
def test_spheres(overlap):
    """The deepest vertex lies as deep as the spheres overlap; the volume is about that of the lens."""
    found = bodyfit.interpenetration(*two_spheres(2 * RADIUS - overlap))
    assert float(found.deepest_m) == pytest.approx(overlap, abs=3e-4)  # the icosphere's faces lie 0.2 mm deep
    cap = overlap / 2
    lens = 2 * np.pi * cap**2 * (3 * RADIUS - cap) / 3
    assert float(found.volume_m3) == pytest.approx(lens, rel=0.25)
    x = two_spheres(2 * RADIUS - overlap)[0][0, :, 0]
    inside = found.depth_m[0] > 0
    first = torch.arange(len(x)) < len(x) // 2
    assert (inside & first).any()
    assert (inside & ~first).any()
    assert (x[inside & first] > RADIUS - overlap).all()


def test_apart_and_turned():
    vertices, faces = two_spheres(2 * RADIUS + 0.001)
    assert float(bodyfit.interpenetration(vertices, faces).deepest_m) == 0
    vertices, faces = two_spheres(1.6 * RADIUS)
    R = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    R = R * torch.linalg.det(R)
    both = torch.cat([vertices, vertices @ R.mT + 1.0])
    found = bodyfit.interpenetration(both, faces).depth_m
    torch.testing.assert_close(found[0], found[1], atol=1e-9, rtol=0)


def test_holes_are_closed():
    """A sphere without its far cap takes the other one in as the whole sphere does."""
    vertices, faces = two_spheres(1.6 * RADIUS)
    whole = bodyfit.interpenetration(vertices, faces).depth_m
    far = (vertices[0, faces, 0] < -0.9 * RADIUS).any(1)
    assert far.any()
    open_ = bodyfit.interpenetration(vertices, faces[~far]).depth_m
    torch.testing.assert_close(open_, whole)


def test_a_small_piece_inside_is_no_penetration():
    """Eyes sit in their head."""
    ball, eye = trimesh.creation.icosphere(4, radius=RADIUS), trimesh.creation.icosphere(1, radius=0.01)
    vertices = torch.tensor(np.concatenate([ball.vertices, eye.vertices + np.array([0.09, 0, 0])]))[None]
    faces = torch.tensor(np.concatenate([ball.faces, eye.faces + len(ball.vertices)]))
    assert float(bodyfit.interpenetration(vertices, faces).deepest_m) == 0


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


def test_rest_pose_and_a_hand_in_the_belly(model):
    """The T-pose is free; a forearm turned into the belly is found there and on the belly, and nowhere else."""
    pose = torch.zeros(2, 23, 3)
    pose[1, model.skeleton.index("left_shoulder") - 1] = torch.tensor([0.0, 0.0, -1.2])
    pose[1, model.skeleton.index("left_elbow") - 1] = torch.tensor([0.0, 0.0, -1.6])
    out = model(body_pose=pose.flatten(1))
    found = bodyfit.interpenetration(out.vertices, model.faces)
    assert found.depth_m.shape == out.vertices.shape[:2]
    assert float(found.deepest_m[0]) == 0
    assert float(found.deepest_m[1]) > 0.03
    owners = model.weights.argmax(1)[found.depth_m[1] > 0].unique().tolist()
    names = {model.skeleton.names[o] for o in owners}
    assert names & {"left_elbow", "left_wrist", "left_hand"}
    assert names & {"pelvis", "spine1", "spine2", "spine3"}
    assert not any(name.startswith("right_") or name == "head" for name in names - {"right_hip"})


def test_bent_elbow_is_a_crease(model):
    pose = torch.zeros(1, 23, 3)
    pose[0, model.skeleton.index("left_elbow") - 1] = torch.tensor([0.0, -2.0, 0.0])
    assert float(bodyfit.interpenetration(model(body_pose=pose.flatten(1)).vertices, model.faces).deepest_m) == 0


def test_wrong_input(model):
    vertices, faces = two_spheres(0.1)
    with pytest.raises(OptionError, match="near_m"):
        bodyfit.interpenetration(vertices, faces, near_m=0.0)
    with pytest.raises(ShapeError, match="faces"):
        bodyfit.interpenetration(vertices, faces + 1)


def test_not_finite_is_not_hidden():
    vertices, faces = two_spheres(0.15)
    vertices[0, 3] = torch.nan
    assert bool(bodyfit.interpenetration(vertices, faces).depth_m.isnan().all())
