"""Shared by the tests: shapes in annotations are checked as the code runs, and a small SMPL-format body."""

from __future__ import annotations

import signal
import sys

from jaxtyping import install_import_hook

_hook = install_import_hook("bodyfit", "beartype.beartype")
_hook.__enter__()

from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))  # for scripts; last, so that the package is the installed one

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job's; what the tests start would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the batches are small: a second thread only waits, and longer on a busy machine

REST_JOINTS = np.array(
    [
        *([0, -0.22, 0.03], [0.07, -0.31, 0.02], [-0.07, -0.31, 0.02], [0, -0.11, 0.0], [0.10, -0.69, 0.02]),
        *([-0.10, -0.69, 0.02], [0, 0.02, 0.0], [0.09, -1.09, -0.03], [-0.09, -1.09, -0.03], [0, 0.07, 0.03]),
        *([0.11, -1.14, 0.09], [-0.11, -1.14, 0.09], [0, 0.29, -0.015], [0.08, 0.2, -0.006], [-0.08, 0.2, -0.006]),
        *([0, 0.35, 0.037], [0.17, 0.23, -0.015], [-0.17, 0.23, -0.015], [0.43, 0.21, -0.04], [-0.43, 0.21, -0.04]),
        *([0.68, 0.22, -0.04], [-0.68, 0.22, -0.04], [0.77, 0.21, -0.06], [-0.77, 0.21, -0.06]),
    ]
)
"""A T-pose of 24 joints, metres, about SMPL's proportions."""


def tiny_body(seed: int = 0, *, per_joint: int = 8, posedirs: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an SMPL-format body with a few vertices about each joint; it looks like nothing and obeys SMPL."""
    rng = np.random.default_rng(seed)
    n_j = len(REST_JOINTS)
    corners = 0.05 * np.sign(rng.standard_normal((n_j, per_joint // 2, 3)))
    around = np.concatenate([corners, -corners], 1)
    vertices = (REST_JOINTS[:, None] + around).reshape(-1, 3)
    n_v = len(vertices)
    regressor = np.kron(np.eye(n_j), np.full((1, per_joint), 1 / per_joint))
    owner = np.repeat(np.arange(n_j), per_joint)
    parents = np.array([2**32 - 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])
    weights = np.zeros((n_v, n_j))
    weights[np.arange(n_v), owner] = 0.7
    weights[np.arange(n_v), np.where(owner == 0, 0, parents[owner] % 2**32 * (owner > 0))] += 0.3
    shapedirs = 0.01 * rng.standard_normal((n_v, 3, 10))
    shapedirs[..., 0] += 0.04 * vertices
    names = ("nose", "left_ear", "right_ear", "head_top", "left_big_toe", "right_big_toe", "left_heel", "right_heel")
    at = dict(zip(names, (15, 15, 15, 15, 10, 11, 7, 8), strict=True))
    keypoints = np.zeros((len(names), n_v))
    for k, name in enumerate(names):
        keypoints[k, at[name] * per_joint + rng.choice(per_joint, 3, replace=False)] = (0.5, 0.3, 0.2)
    faces = np.arange(n_v - n_v % 3).reshape(-1, 3)
    return {
        "v_template": vertices,
        "shapedirs": shapedirs,
        "posedirs": 0.002 * rng.standard_normal((n_v, 3, 207)) * posedirs,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack([parents, np.arange(n_j)]),
        "f": faces,
        "keypoint_names": np.array(names),
        "keypoint_regressor": keypoints,
    }


def tiny_assets(kind: str, *, posedirs: str = "dense", seed: int = 0):
    """A body of any kind about its joints, obeying the laws of its layout; posedirs "none", "dense" or "blocks"."""
    from bodyfit.body.families.kinds import FAMILIES
    from bodyfit.body.record import BodyAssets, HandSpace, PoseBlocks
    from bodyfit.skeleton import SMPL

    layout, rng, around = FAMILIES[kind], np.random.default_rng(seed), 6
    skeleton = layout.skeleton
    joints = np.zeros((len(skeleton), 3))
    for j, name in enumerate(skeleton.names):
        known = REST_JOINTS[SMPL.index(name)] if name in SMPL.names else None
        joints[j] = joints[skeleton.parents[j]] + 0.03 * rng.standard_normal(3) if known is None else known
    corners = 0.02 * rng.standard_normal((len(joints), around // 2, 3))
    vertices = (joints[:, None] + np.concatenate([corners, -corners], 1)).reshape(-1, 3)
    n_v, n_j = len(vertices), len(joints)
    owner = np.repeat(np.arange(n_j), around)
    weights = np.zeros((n_v, n_j))
    weights[np.arange(n_v), owner] = 0.7
    weights[np.arange(n_v), np.maximum(np.array(skeleton.parents)[owner], 0)] += 0.3
    dense = 0.003 * rng.standard_normal((n_v, 3, layout.pose_features))
    if posedirs == "blocks":
        near = rng.random((n_v, n_j - 1)) < 0.1
        dense = (dense.reshape(n_v, 3, n_j - 1, 9) * near[:, None, :, None]).reshape(n_v, 3, -1)
    space = HandSpace(0.2 * rng.standard_normal(45), np.linalg.qr(rng.standard_normal((45, 45)))[0])
    regressors = {"nose": skeleton.names.index("head") if "head" in skeleton.names else 0, "left_index_tip": n_j // 2}
    keypoints = {name: np.zeros(n_v) for name in regressors}
    for name, joint in regressors.items():
        keypoints[name][joint * around + rng.choice(around, 3, replace=False)] = (0.5, 0.3, 0.2)
    return BodyAssets(
        name=f"tiny {kind}",
        kind=layout,
        gender="neutral",
        v_template=vertices,
        shapedirs=0.01 * rng.standard_normal((n_v, 3, 10)),
        posedirs=None if posedirs == "none" else PoseBlocks.of(dense) if posedirs == "blocks" else dense,
        J_regressor=np.kron(np.eye(n_j), np.full((1, around), 1 / around)),
        weights=weights,
        faces=np.arange(n_v - n_v % 3).reshape(-1, 3),
        exprdirs=0.01 * rng.standard_normal((n_v, 3, 10)) if layout.shapes else None,
        hands={"left": space, "right": space} if n_j in (16, 52, 55) else {},
        keypoints=keypoints,
    )


@pytest.fixture
def tables():
    """The tables that other people's code may add to, put back afterwards as they were."""
    from bodyfit.detect import DETECTORS
    from bodyfit.fit.residuals import RESIDUALS
    from bodyfit.io.export.formats import EXPORTS

    before = [(table, dict(table)) for table in (DETECTORS, RESIDUALS, EXPORTS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bodies") / "tiny.npz"
    np.savez(path, **tiny_body())
    return path


@pytest.fixture
def tiny(tiny_path):
    """A float64 model of the tiny body."""
    from bodyfit.body.model import load_model

    return load_model(tiny_path, dtype=torch.float64)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium for the whole run (tests/browser.py); tests skip where none is installed."""
    from browser import Browser, chromium_path

    if (path := chromium_path()) is None:
        pytest.skip("no Chromium here (apt-get install chromium, or name one in BODYFIT_CHROMIUM)")
    with Browser(path) as started:
        yield started
