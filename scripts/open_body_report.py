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
    print(f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(template)} vertices, {len(faces)} faces")
    _print_shape(template, shapes, faces)
    _print_fit(template, shapes, skin, variances)
    _print_mesh(faces, len(template))
    _print_rig(body, skin, joints)
    _print_symmetry(body, source.mirror)


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


def _print_rig(body: dict[str, np.ndarray], skin: np.ndarray, joints: np.ndarray) -> None:
    found = np.einsum("jv,svc->sjc", body["J_regressor"].astype(float), skin)
    bias = np.linalg.norm((found - joints).mean(0), axis=-1) * 1e3
    error = np.linalg.norm(found - joints, axis=-1).mean(0) * 1e3
    print("  joint against rig, mean distance (and bias), mm:")
    for j, name in enumerate(JOINTS):
        if not name.startswith("right"):
            print(f"    {name:14} {error[j]:5.1f} ({bias[j]:.1f})")
    for name in ("J_regressor", "weights", "keypoint_regressor"):
        rows = body[name]
        used, off = (rows > 0).sum(1).max(), abs(rows.sum(1) - 1).max()
        print(f"  {name}: {rows.shape}, at most {used} a row, least {rows.min():.4f}, |sum - 1| {off:.1e}")


def _print_symmetry(body: dict[str, np.ndarray], mirror: np.ndarray) -> None:
    flip, swap = np.array([-1, 1, 1]), {"left": "right", "right": "left"}
    names = body["keypoint_names"].tolist()
    other = [names.index("_".join(swap.get(p, p) for p in n.split("_"))) for n in names]
    differences = {
        "template": body["v_template"] - body["v_template"][mirror] * flip,
        "shapedirs": body["shapedirs"] - body["shapedirs"][mirror] * flip[:, None],
        "weights": body["weights"] - body["weights"][mirror][:, joint_mirror()],
        "joints": body["J_regressor"] - body["J_regressor"][joint_mirror()][:, mirror],
        "keypoints": body["keypoint_regressor"] - body["keypoint_regressor"][other][:, mirror],
    }
    print("  asymmetry: " + ", ".join(f"{name} {abs(d).max():.1e}" for name, d in differences.items()))
