"""Measures the written files and prints what was found."""

from pathlib import Path

import numpy as np
import scipy.sparse.csgraph

from scripts.build.open_body.rig import JOINTS
from scripts.build.open_body.source import DENSITY_KG_M3, Source, height, volume
from scripts.build.open_body.tree import ALL_JOINTS, FINGER_JOINTS, TREE_JOINTS, mirrored_joints


def print_shared(path: Path, skin: np.ndarray, places: dict[str, np.ndarray], expressions: dict) -> None:
    """`skin` (S, V, 3) and `places` (S, 3) are what open.npz was made from; `expressions` are numbers on them."""
    body = _read(path)
    print(f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(body['weights'])} vertices, {len(body['f'])} faces")
    _print_mesh(body["f"].astype(int), len(body["weights"]))
    joints = np.stack(list(places.values()), 1)
    _print_joints(body["J_regressor"][[ALL_JOINTS.index(n) for n in places]], list(places), skin, joints)
    for name in ("J_regressor", "weights", "keypoint_regressor"):
        rows = body[name]
        used, off = (rows > 0).sum(1).max(), abs(rows.sum(1) - 1).max()
        print(f"  {name}: {rows.shape}, at most {used} a row, least {rows.min():.4f}, |sum - 1| {off:.1e}")
    _print_hands(body)
    print("  expressions, variance explained: " + " ".join(f"{x:.3f}" for x in expressions["explained"]))
    for kind in ("moved_mm", "error_mm"):
        print(f"    face's vertices, {kind}: mean %.2f, 99th percentile %.2f" % expressions[kind])
    for k, units in enumerate(expressions["units"]):
        print(f"    {k}: {units}")
    drift = np.linalg.norm(np.einsum("jv,vck->jck", body["J_regressor"], body["exprdirs"]), axis=1) * 1e3
    print(f"    they move joints by at most {drift.max():.2f} mm a deviation ({ALL_JOINTS[drift.max(1).argmax()]})")
    _print_symmetry(body)


def print_body(
    path: Path, source: Source, regressor: np.ndarray, skin: np.ndarray, joints: np.ndarray, variances: np.ndarray
) -> None:
    """`skin` (S, V, 3) and `joints` (S, 24, 3) are the bodies that a gender's file was made from."""
    body = _read(path)
    template, shapes = body["v_template"].astype(float), body["shapedirs"].astype(float)
    print(f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    _print_shape(template, shapes, source.faces)
    _print_fit(template, shapes, skin, variances)
    _print_joints(regressor[[ALL_JOINTS.index(n) for n in JOINTS]], JOINTS, skin, joints)
    flip = np.array([-1, 1, 1])
    worst = (template - template[source.mirror] * flip, shapes - shapes[source.mirror] * flip[:, None])
    print("  asymmetry: " + ", ".join(f"{abs(d).max():.1e}" for d in worst))


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _print_shape(template: np.ndarray, shapes: np.ndarray, faces: np.ndarray) -> None:
    def mass(vertices):
        return volume(vertices, faces) * DENSITY_KG_M3

    tall, heavy = height(template), mass(template)
    print(f"  mean: height {tall:.3f} m, mass {heavy:.1f} kg, BMI {heavy / tall**2:.1f}")
    drawn = template + np.einsum("vck,sk->svc", shapes, np.random.default_rng(0).standard_normal((300, 10)))
    h, m = height(drawn), np.array([mass(v) for v in drawn])
    print(f"  betas ~ N(0, I): height {h.mean():.3f} m, sd {h.std():.3f}, {h.min():.2f} to {h.max():.2f}")
    print(f"    mass {m.mean():.1f} kg, sd {m.std():.1f}, {m.min():.1f} to {m.max():.1f}")
    for k in range(4):
        ends = [template + x * shapes[..., k] for x in (-2, 2)]
        print(f"  beta {k} at -2, 2: " + ", ".join(f"{height(v):.3f} m {mass(v):.1f} kg" for v in ends))


def _print_fit(template: np.ndarray, shapes: np.ndarray, skin: np.ndarray, variances: np.ndarray) -> None:
    print("  variance explained: " + " ".join(f"{x:.4f}" for x in np.cumsum(variances[:10]) / variances.sum()))
    basis, data = shapes.reshape(-1, 10), (skin - template).reshape(len(skin), -1)
    betas = np.linalg.solve(basis.T @ basis, basis.T @ data.T).T
    error = np.linalg.norm((data - betas @ basis.T).reshape(skin.shape), axis=-1) * 1e3
    print(f"  vertex error with 10: mean {error.mean():.2f} mm, 99th percentile {np.quantile(error, 0.99):.2f} mm")


def _print_mesh(faces: np.ndarray, count: int) -> None:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs, uses = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
    clashes = len(edges) - len(np.unique(edges, axis=0))
    graph = scipy.sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count))
    _, piece = scipy.sparse.csgraph.connected_components(graph, directed=False)
    print(f"  mesh: {(uses == 1).sum()} boundary edges, {(uses > 2).sum()} of more than two faces, {clashes} clashing")
    print(
        f"    pieces of {np.bincount(piece).tolist()} vertices, Euler characteristic {count - len(pairs) + len(faces)}"
    )


def _print_joints(regressor: np.ndarray, names: list[str], skin: np.ndarray, joints: np.ndarray) -> None:
    found = np.einsum("jv,svc->sjc", regressor.astype(float), skin)
    bias = np.linalg.norm((found - joints).mean(0), axis=-1) * 1e3
    error = np.linalg.norm(found - joints, axis=-1).mean(0) * 1e3
    print("  joint against where it should be, mean distance (and bias), mm:")
    told = [f"{n} {error[j]:.2f} ({bias[j]:.2f})" for j, n in enumerate(names) if not n.startswith("right")]
    for start in range(0, len(told), 5):
        print("    " + ", ".join(told[start : start + 5]))


def _print_hands(body: dict[str, np.ndarray]) -> None:
    variance = body["hands_sdl"].astype(float) ** 2
    explained = np.cumsum(variance)[:12] / variance.sum()
    print("  hand poses, variance explained: " + " ".join(f"{x:.3f}" for x in explained))
    print("    standard deviations, rad: " + " ".join(f"{x:.3f}" for x in body["hands_sdl"][:12]))
    mean, axes = body["hands_meanl"].reshape(-1, 3), body["finger_flexion_axes"]
    bend = np.degrees((mean * axes[: len(mean)]).sum(1))
    told = [f"{name[5:]} {b:.0f}" for name, b in zip(FINGER_JOINTS[: len(mean)], bend, strict=True)]
    print("    mean flexion, degrees: " + ", ".join(told))


def _print_symmetry(body: dict[str, np.ndarray]) -> None:
    mirror, names = body["mirror"], tuple(body["keypoint_names"].tolist())
    all_joints = mirrored_joints(ALL_JOINTS)
    differences = {
        "weights": body["weights"] - body["weights"][mirror][:, mirrored_joints(TREE_JOINTS)],
        "joints": body["J_regressor"] - body["J_regressor"][all_joints][:, mirror],
        "keypoints": body["keypoint_regressor"] - body["keypoint_regressor"][mirrored_joints(names)][:, mirror],
    }
    print("  asymmetry: " + ", ".join(f"{name} {abs(d).max():.1e}" for name, d in differences.items()))
