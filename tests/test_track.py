"""A track is one person with one shape through consecutive frames; people keep their numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bodyfit.body.model import BodyParams
from bodyfit.camera import Camera
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.track import Track
from bodyfit.io import load_result, load_track, save, save_track


def _track(n: int = 5, first: int = 7) -> Track:
    torch.manual_seed(0)
    betas = torch.randn(1, 10).repeat(n, 1)
    result = FitResult(
        params=BodyParams(betas, torch.randn(n, 69), torch.randn(n, 3), torch.randn(n, 3)),
        camera=Camera.make(n, (640, 480), focal_px=700.0),
        joints=torch.randn(n, 24, 3),
        status=(FitStatus.CONVERGED,) * n,
        objective=torch.rand(n),
        reprojection_error_px=torch.rand(n),
        layout="coco17",
        keypoints=torch.rand(n, 17, 3),
        model_name="open",
        gender="neutral",
        iterations=torch.arange(n),
        flipped=torch.zeros(n, dtype=torch.bool),
    )
    times = (np.arange(n) + first) / 29.97
    return Track(3, np.arange(first, first + n), times, 29.97, np.arange(n) != 2, result)


def test_a_track_is_read_back_exactly(tmp_path):
    track = _track()
    save_track(track, tmp_path / "person3.npz")
    back = load_track(tmp_path / "person3.npz")
    assert (back.id, back.fps) == (track.id, track.fps)
    for name in ("frames", "times_s", "seen"):
        np.testing.assert_array_equal(getattr(back, name), getattr(track, name))
    for name, value in track.result.params.items():
        assert torch.equal(back.result.params[name], value)
    assert torch.equal(back.result.keypoints, track.result.keypoints)
    assert back.result.status == track.result.status


def test_the_fit_in_a_track_can_be_read_alone_and_by_amass_tools(tmp_path):
    track = _track()
    save_track(track, tmp_path / "t.npz")
    assert torch.equal(load_result(tmp_path / "t.npz").joints, track.result.joints)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        assert arrays["poses"].shape == (5, 72)
        assert arrays["trans"].shape == (5, 3)
        assert float(arrays["mocap_framerate"]) == track.fps


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frames": np.array([7, 8, 10, 11, 12])}, "equal steps"),
        ({"frames": np.array([7, 7, 7, 7, 7])}, "equal steps"),
        ({"times_s": np.zeros(5)}, "times_s must ascend"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_what_is_no_track_is_refused(change, text):
    with pytest.raises(OptionError, match=text):
        dataclasses.replace(_track(), **change)


def test_a_person_has_one_shape():
    track = _track()
    track.result.params.betas[1, 0] += 0.1
    with pytest.raises(match="one shape"):
        dataclasses.replace(track)


def test_a_stride_is_a_track():
    track = dataclasses.replace(_track(), frames=np.arange(0, 15, 3))
    assert len(track) == 5


def test_files_that_hold_no_track_are_named(tmp_path):
    track = _track()
    path = tmp_path / "t.npz"
    save(track.result, path, fps=30.0)
    with pytest.raises(AssetError, match=r"t\.npz.*not a track"):
        load_track(path)
    save_track(track, path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    for change, text in (
        ({"frames": arrays["frames"][::-1].copy()}, "ascend"),
        ({"frames": arrays["frames"].astype(float)}, "frames is float64"),
        ({"seen": arrays["seen"][:3]}, "seen"),
        ({"seen": None}, "lacks seen"),
    ):
        np.savez(path, **{k: v for k, v in (arrays | change).items() if v is not None})
        with pytest.raises(AssetError, match=text):
            load_track(path)
