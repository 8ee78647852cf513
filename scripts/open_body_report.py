"""Measures a written body file and prints what was found."""

from pathlib import Path

import numpy as np
import scipy.sparse.csgraph
from open_body_rig import JOINTS, joint_mirror
from open_body_source import DENSITY_KG_M3, Source, height, volume


def report(path: Path, source: Source, skin: np.ndarray, joints: np.ndarray, variances: np.ndarray) -> None:
    """`skin` (S, V, 3) and `joints` (S, 24, 3) are the bodies that the file was made from."""
    with np.load(path, allow_pickle=False) as file:
        body = {name: file[name] for name in file.files}
    template, shapes, faces = body["v_template"].astype(float), body["shapedirs"].astype(float), body["f"].astype(int)
    print(f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(template)} vertices, {len(faces)} faces, {len(body['vt'])} texture coordinates")
    _print_shape(template, shapes, faces, skin, variances)
    _print_mesh(faces, len(template))
    _print_rig(body, skin, joints)
    _print_symmetry(body, source.mirror)


def _print_shape(template: np.ndarray, shapes: np.ndarray, faces: np.ndarray, skin: np.ndarray, variances: np.ndarray) -> None:
    mass = volume(template, faces) * DENSITY_KG_M3
    print(f"  mean: height {height(template):.3f} m, mass {mass:.1f} kg, BMI {mass / height(template) ** 2:.1f}")
    print("  variance explained by 1..10: " + " ".join(f"{x:.4f}" for x in np.cumsum(variances[:10]) / variances.sum()))
    basis = shapes.reshape(-1, 10)
    data = (skin - template).reshape(len(skin), -1)
    betas = np.linalg.lstsq(basis.T @ basis, basis.T @ data.T, rcond=None)[0].T
    errors = np.linalg.norm((data - betas @ basis.T).reshape(skin.shape), axis=-1)
    print(f"  vertex error with 10: mean {errors.mean() * 1e3:.2f} mm, 99th percentile {np.quantile(errors, 0.99) * 1e3:.2f} mm; betas sd {betas.std(0).round(2)}")
    drawn = template + np.einsum("vck,sk->svc", shapes, np.random.default_rng(0).standard_normal((300, 10)))
    h, m = height(drawn), np.array([volume(v, faces) for v in drawn]) * DENSITY_KG_M3
    print(f"  betas ~ N(0, I): height {h.mean():.3f} sd {h.std():.3f} m, mass {m.mean():.1f} sd {m.std():.1f} kg, least {m.min():.1f}, most {m.max():.1f}")
    for k in range(4):
        ends = [template + x * shapes[..., k] for x in (-2, 2)]
        print(f"  beta {k} at -2, 2: " + ", ".join(f"{height(v):.3f} m {volume(v, faces) * DENSITY_KG_M3:.1f} kg" for v in ends))


def _print_mesh(faces: np.ndarray, count: int) -> None:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    undirected, uses = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
    twice = len(edges) - len(np.unique(edges, axis=0))
    graph = scipy.sparse.coo_matrix((np.ones(len(undirected)), undirected.T), shape=(count, count))
    pieces, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    print(
        f"  mesh: {(uses == 1).sum()} boundary edges, {(uses > 2).sum()} edges with more than two faces, {twice} edges of clashing orientation, "
        f"{pieces} pieces of {np.bincount(label).tolist()} vertices, {count - len(undirected) + len(faces)} Euler characteristic"
    )


def _print_rig(body: dict[str, np.ndarray], skin: np.ndarray, joints: np.ndarray) -> None:
    regressor, weights = body["J_regressor"].astype(float), body["weights"]
    found = np.einsum("jv,svc->sjc", regressor, skin)
    error = np.linalg.norm(found - joints, axis=-1).mean(0) * 1e3
    print("  joint against rig, mean mm: " + ", ".join(f"{n} {e:.1f}" for n, e in zip(JOINTS, error, strict=True) if not n.startswith("right")))
    print(f"  joint regressor: at most {(regressor > 0).sum(1).max()} vertices, least weight {regressor.min():.4f}, |sum - 1| {abs(regressor.sum(1) - 1).max():.1e}")
    print(f"  weights: at most {(weights > 0).sum(1).max()} bones, |sum - 1| {abs(weights.sum(1) - 1).max():.1e}")
    keypoints = body["keypoint_regressor"]
    print(f"  keypoints: {len(keypoints)}, at most {(keypoints > 0).sum(1).max()} vertices, |sum - 1| {abs(keypoints.sum(1) - 1).max():.1e}")


def _print_symmetry(body: dict[str, np.ndarray], mirror: np.ndarray) -> None:
    flip = np.array([-1, 1, 1])
    swap = {"left": "right", "right": "left"}
    names = body["keypoint_names"].tolist()
    other = [names.index("_".join(swap.get(p, p) for p in n.split("_"))) for n in names]
    checks = {
        "template": body["v_template"] - body["v_template"][mirror] * flip,
        "shapedirs": body["shapedirs"] - body["shapedirs"][mirror] * flip[:, None],
        "weights": body["weights"] - body["weights"][mirror][:, joint_mirror()],
        "J_regressor": body["J_regressor"] - body["J_regressor"][joint_mirror()][:, mirror],
        "keypoint_regressor": body["keypoint_regressor"] - body["keypoint_regressor"][other][:, mirror],
    }
    print("  symmetry, largest difference: " + ", ".join(f"{name} {abs(d).max():.1e}" for name, d in checks.items()))
