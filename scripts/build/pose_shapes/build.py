"""Adds pose blend shapes to the open body: elastic solves around each joint, and linear shapes near to them.

    python -m scripts.build.pose_shapes.build --body assets/body

FOLDER/open.npz gets three arrays, sorted by vertex and then joint: `posedirs_joint` (N,) indexes `joint_names`,
`posedirs_vertex` (N,), and `posedirs_block` (N, 3, 9) in metres per entry of R_j - I, row by row, so that the skin
before skinning is T + sum_j block_j vec(R_j - I). Needs no scans and no clips. The same bytes on the same machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from scripts.build.open_body.build import write_npz
from scripts.build.pose_shapes import joints as anatomy
from scripts.build.pose_shapes.hand import hand_setups
from scripts.build.pose_shapes.joints import Setup
from scripts.build.pose_shapes.solve import Answer, Body, regress, solve_joint
from scripts.build.pose_shapes.volume import Filler

GENDERS = ("neutral", "male", "female")
"""They share the shapes; the first is the one that is solved for."""
ROUNDING = 2.0**20
GRAIN = 0.8
"""How far corrections are evened out along the skin, in cubes of the lattice: what is finer is the lattice's."""
FADE = (0.03, 0.1)
"""In cubes: corrections that never get larger than the first are dropped; at the second they are kept whole."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--body", type=Path, default=Path(__file__).resolve().parents[3] / "assets" / "body", help="folder of open.npz"
    )
    args = parser.parse_args()
    path = args.body / "open.npz"
    bodies = [load_body(args.body, gender) for gender in GENDERS]
    body = bodies[0]
    rest = dict(zip(body.names, body.joints, strict=True))
    found: list[tuple[str, np.ndarray, np.ndarray]] = []
    with np.load(path) as file:  # axes of the left fingers, then the right ones
        fingers = [name for name in body.names if name[-1] in "123" and name.startswith("left")]
        axes = file["finger_flexion_axes"].astype(float) if "finger_flexion_axes" in file else np.zeros((0, 3))
    flexion = dict(zip(fingers, axes, strict=False))
    for setup in anatomy.setups(rest) + hand_setups(rest, body.vertices, flexion):
        start = time.perf_counter()
        found += finished(bodies, setup, solve_joint(body, setup))
        print(f"{setup.name:18} {len(found[-1][1]):5} vertices {time.perf_counter() - start:6.1f} s", flush=True)
    with np.load(path) as old:
        arrays = dict(old)
    write_npz(path, arrays | packed(body, found))
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def load_body(folder: Path, gender: str = "neutral") -> Body:
    """The mean body of a gender, with its hands."""
    with np.load(folder / "open.npz") as shared, np.load(folder / f"open_{gender}.npz") as own:
        names = tuple(str(name) for name in shared["joint_names"])
        vertices = own["v_template"].astype(float)
        return Body(
            vertices,
            shared["f"].astype(np.int64),
            shared["weights"].astype(float),
            shared["mirror"].astype(np.int64),
            names,
            anatomy.parents(names),
            shared["J_regressor"].astype(float) @ vertices,
        )


def finished(bodies: list[Body], setup: Setup, answer: Answer) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(joint, vertices, blocks) of a joint, and of its mirror image where it has one; solved for the first body."""
    name, body = setup.name, bodies[0]
    blocks = regress(body, answer, setup.smooth, GRAIN * setup.cube_m)
    if setup.creases:  # limbs; the trunk, the neck and the shoulder girdle hardly lose any
        blocks = Filler(bodies, setup, answer).fill(blocks)
    features = (answer.rotations - np.eye(3)).reshape(-1, 9)
    largest = np.linalg.norm(np.einsum("sca,ka->ksc", blocks, features), axis=2).max(0)
    part = np.clip((largest / setup.cube_m - FADE[0]) / (FADE[1] - FADE[0]), 0, 1)
    blocks = blocks * (part * part * (3 - 2 * part))[:, None, None]
    kept = part > 0
    skin, blocks = answer.skin[kept], blocks[kept]
    # The reflection S turns R into S R S and a correction d into S d.
    sign = np.array([-1.0, 1.0, 1.0])
    flipped = blocks * sign[:, None] * np.outer(sign, sign).ravel()
    if name.startswith("left"):
        return [(name, skin, blocks), (name.replace("left", "right"), body.mirror[skin], flipped)]
    place = np.full(len(body.vertices), -1)
    place[skin] = np.arange(len(skin))
    return [(name, skin, 0.5 * (blocks + flipped[place[body.mirror[skin]]]))]


def packed(body: Body, found: list[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of the file."""
    joints = np.concatenate([np.full(len(v), body.names.index(name)) for name, v, _ in found])
    vertices = np.concatenate([v for _, v, _ in found])
    blocks = np.concatenate([b for _, _, b in found])
    blocks = (np.round(blocks * ROUNDING) / ROUNDING).astype(np.float32)
    used = np.flatnonzero(blocks.any((1, 2)))
    order = used[np.lexsort((joints[used], vertices[used]))]
    return {
        "posedirs_joint": joints[order].astype(np.uint8),
        "posedirs_vertex": vertices[order].astype(np.uint16),
        "posedirs_block": blocks[order],
    }


if __name__ == "__main__":
    main()
