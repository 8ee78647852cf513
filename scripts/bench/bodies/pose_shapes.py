"""Plain skinning against skinning with the pose shapes: volume, self-intersection, stretch.

    python -m scripts.bench.bodies.pose_shapes [--body assets/body] [--gender neutral] [--clips FOLDER] [--poses 400]

One joint turns at a time, each about its anatomical axis from the T-pose. The volume is the signed volume of the whole
closed skin: nothing else moves, so that its change is the limb's; where the skin passes through itself the part inside
twice counts twice, as it does for flesh. The clips (AMASS layout) give natural poses of all joints.
"""

import argparse
from pathlib import Path

import numpy as np

from scripts.bench.records import harness
from scripts.build.pose_shapes import measure
from scripts.build.pose_shapes.build import GENDERS, load_body

MOTIONS = [
    ("elbow flexion 60", {"left_elbow": (0, -60, 0)}),
    ("elbow flexion 120", {"left_elbow": (0, -120, 0)}),
    ("elbow twist 90", {"left_elbow": (90, 0, 0)}),
    ("elbow twist -90", {"left_elbow": (-90, 0, 0)}),
    ("knee flexion 60", {"left_knee": (60, 0, 0)}),
    ("knee flexion 120", {"left_knee": (120, 0, 0)}),
    ("knee twist 90", {"left_knee": (0, 90, 0)}),
    ("knee twist -90", {"left_knee": (0, -90, 0)}),
    ("shoulder: arm down 75", {"left_shoulder": (0, 0, -75)}),
    ("shoulder: arm down 90", {"left_shoulder": (0, 0, -90)}),
    ("shoulder: arm up 75", {"left_shoulder": (0, 0, 75)}),
    ("shoulder: arm forward 120", {"left_shoulder": (0, -120, 0)}),
    ("shoulder twist 90", {"left_shoulder": (90, 0, 0)}),
    ("shoulder twist -90", {"left_shoulder": (-90, 0, 0)}),
    ("hip flexion 60", {"left_hip": (-60, 0, 0)}),
    ("hip flexion 120", {"left_hip": (-120, 0, 0)}),
    ("hip extension 20", {"left_hip": (20, 0, 0)}),
    ("hip abduction 45", {"left_hip": (0, 0, 45)}),
    ("hip twist 45", {"left_hip": (0, 45, 0)}),
    ("hip twist 90", {"left_hip": (0, 90, 0)}),
    ("hip twist -90", {"left_hip": (0, -90, 0)}),
    ("wrist flexion 80", {"left_wrist": (0, 0, -80)}),
    ("wrist flexion 120", {"left_wrist": (0, 0, -120)}),
    ("wrist extension 70", {"left_wrist": (0, 0, 70)}),
    ("wrist twist 90", {"left_wrist": (90, 0, 0)}),
    ("wrist twist -90", {"left_wrist": (-90, 0, 0)}),
]
FINGER_MOTIONS = [
    ("index knuckle 90", {"left_index1": (0, 0, -90)}),
    ("index middle joint 100", {"left_index2": (0, 0, -100)}),
    ("fist 80", {f"left_{f}{k}": (0, 0, -80) for f in ("index", "middle", "ring", "pinky") for k in (1, 2, 3)}),
]
SCULPTED_SHOULDER_DEG = (-12.0, -3.5, -37.0)
SMPL_24 = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--body", type=Path, default=Path(__file__).resolve().parents[3] / "assets" / "body")
    parser.add_argument("--gender", choices=GENDERS, default="neutral", help="whose body")
    parser.add_argument("--clips", type=Path, help="folder of AMASS-layout clips")
    parser.add_argument("--poses", type=int, default=400, help="poses taken from the clips")
    harness.add_json_option(parser)
    args = parser.parse_args()
    body = load_body(args.body, args.gender)
    with np.load(args.body / "open.npz") as file:
        shapes = {name: file[name] for name in ("posedirs_joint", "posedirs_vertex", "posedirs_block")}
    describe(body, shapes)
    found = {"volume_change_ml": single_joints(body, shapes)}
    if args.clips is not None:
        found["clips"] = natural(body, shapes, args.clips, args.poses)
    harness.write_json(args, found)


def describe(body, shapes) -> None:
    """Size, symmetry, rest pose."""
    count = np.bincount(shapes["posedirs_vertex"], minlength=len(body.vertices))
    print(f"{len(shapes['posedirs_joint'])} blocks, {count.mean():.2f} a vertex, at most {count.max()}")
    still = measure.pose_body(body, {}, shapes) - measure.pose_body(body, {}, None)
    rng = np.random.default_rng(0)
    turns = {name: rng.normal(0, 0.4, 3) for name in SMPL_24[1:]}
    other = {_swapped(name): turn * [1, -1, -1] for name, turn in turns.items()}
    a, b = (measure.pose_body(body, t, shapes) for t in (turns, other))
    a, b = (v - v.mean(0) for v in (a, b))
    uneven = np.abs(a[body.mirror] * [-1, 1, 1] - b).max()
    print(f"change at rest {np.abs(still).max():.1e} m, left-right difference {uneven:.1e} m")


def single_joints(body, shapes) -> dict[str, list[float]]:
    """One row a motion; gives the change of volume of each, plain and with the shapes."""
    rest = measure.pose_body(body, {}, None)
    known = int(measure.crossing(rest, body.faces).sum())
    at_rest = measure.volume(rest, body.faces)
    print(f"volume {at_rest / 1000:.2f} l; {known} faces cross another at rest (lids, lips), not counted below")
    print("\none joint turned, degrees; volume against the T-pose's")
    found = table(body, shapes, MOTIONS + (FINGER_MOTIONS if "left_index1" in body.names else []), at_rest, known)
    # The skin was sculpted with its arms half down; the T-pose was skinned back from there and is fuller.
    sculpted = {"left_shoulder": np.deg2rad(SCULPTED_SHOULDER_DEG)}
    print("\nthe same shoulders; volume against the pose in which the body was sculpted")
    shoulders = [motion for motion in MOTIONS if "left_shoulder" in motion[1]]
    found |= table(body, shapes, shoulders, measure.volume(measure.pose_body(body, sculpted, None), body.faces), known)
    if "left_index1" in body.names:
        small, few = measure.small_tree(body, shapes)
        print("\nthe 24-joint tree; volume against the T-pose's")
        found |= table(small, few, [("hand bent 80", {"left_hand": (0, 0, -80)})], at_rest, known)
    return found


def table(body, shapes, motions, reference: float, known: int) -> dict[str, list[float]]:
    """Volume, with and without, and the faces that cross another."""
    print(f"{'':28}{'plain, ml':>10}{'with':>8}{'removed':>9}{'crossing: plain':>17}{'with':>6}")
    found = {}
    for label, turns in motions:
        turns = {name: np.deg2rad(turn) for name, turn in turns.items()}
        changes, cuts = [], []
        for chosen in (None, shapes):
            skin = measure.pose_body(body, turns, chosen)
            changes.append(measure.volume(skin, body.faces) - reference)
            cuts.append(int(measure.crossing(skin, body.faces).sum()) - known)
        removed = 1 - abs(changes[1]) / abs(changes[0])
        print(f"{label:28}{changes[0]:10.0f}{changes[1]:8.0f}{removed:9.0%}{cuts[0]:17d}{cuts[1]:6d}")
        found[label] = changes
    return found


def natural(body, shapes, folder: Path, count: int) -> dict[str, list[float]]:
    """Means over poses of the clips."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise SystemExit(f"error: no .npz clips in {folder}")
    rng = np.random.default_rng(0)
    rest, edges = measure.pose_body(body, {}, None), measure.unique_edges(body.faces)
    at_rest, known = measure.volume(rest, body.faces), int(measure.crossing(rest, body.faces).sum())
    rows = []
    for i in range(count):
        with np.load(files[i % len(files)]) as clip:
            pose = clip["poses"][rng.integers(1, len(clip["poses"]))]
        turns = {name: pose[3 * j : 3 * j + 3] for j, name in enumerate(SMPL_24) if j}
        row = []
        for chosen in (None, shapes):
            skin = measure.pose_body(body, turns, chosen)
            strain = measure.edge_strain(skin, rest, edges)
            row += [
                strain.mean(),
                np.sqrt((strain**2).mean()),
                np.quantile(strain, 0.99),
                abs(measure.volume(skin, body.faces) - at_rest),
            ]
            row.append(int(measure.crossing(skin, body.faces).sum()) - known if i % 8 == 0 else np.nan)
        rows.append(row)
    means = np.nanmean(np.array(rows), axis=0)
    found = {}
    for k, label in enumerate(
        ("mean edge strain", "rms edge strain", "99 % edge strain", "|volume change|, ml", "crossing faces")
    ):
        print(f"clips, {len(rows)} poses: {label:20} plain {means[k]:10.4f}   with {means[k + 5]:10.4f}")
        found[label] = [means[k], means[k + 5]]
    return found


def _swapped(name: str) -> str:
    swap = {"left": "right", "right": "left"}
    return "_".join(swap.get(part, part) for part in name.split("_"))


if __name__ == "__main__":
    main()
