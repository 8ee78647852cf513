"""Lay MediaPipe's canonical face on the open face: assets/body/face468.npz, a place on the mesh for each of its points.

    python -m scripts.build.face_points --canonical canonical-face-model.obj -o assets/body/face468.npz [--picture OUT]

The canonical face model is MediaPipe's (Apache-2.0; github.com/google/mediapipe, modules/face_geometry/data; also in
the npm package mind-ar 1.2.5, src/face-target/face-geometry). Its 468 points are brought to the neutral open face by
the 68 landmarks that both have (a similarity, then a thin-plate spline) and then to the skin, step by step: each goes
to the nearest place on the skin, and the spline follows what its neighbours did. Points of the upper lip stay on
triangles that the jaw hardly moves, those of the lower lip on such as it moves, so that both part when the mouth opens.
Irises are the poles of the eyeballs.

The places are triangles and barycentric coordinates. They go with expression, jaw and eyes as the skin does; the report
says how far lips and lids part on an open mouth and how even the points lie there.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

import bodyfit
from bodyfit.geometry.procrustes import align
from bodyfit.keypoints import FACE_IBUG68
from scripts.build.pose_prior import write_npz

UPPER_LIP = (
    *(185, 40, 39, 37, 0, 267, 269, 270, 409, 191, 80, 81, 82, 13, 312, 311, 310, 415),
    *(183, 42, 41, 38, 12, 268, 271, 272, 407, 184, 74, 73, 72, 11, 302, 303, 304, 408),
)
LOWER_LIP = (
    *(146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324),
    *(96, 89, 179, 86, 15, 316, 403, 319, 325, 77, 90, 180, 85, 16, 315, 404, 320, 307),
)
"""Without the corners of the mouth."""
STEPS = 6
NEAR = 60
"""Triangles, by their middles, that are looked at for the nearest place."""


def canonical_points(path: Path) -> np.ndarray:
    """(468, 3) points of the canonical face, centimetres: x to the face's left, y up, z forward."""
    rows = re.findall(r"^v (\S+) (\S+) (\S+)", path.read_text(), re.MULTILINE)
    points = np.array(rows, dtype=float)
    if points.shape != (468, 3):
        raise SystemExit(f"{path}: expected 468 vertices, found {len(points)}")
    return points


class Skin:
    """The front of the open head, whole and by whether the jaw moves it."""

    def __init__(self, model: bodyfit.BodyModel) -> None:
        self.vertices = model.v_template.double().numpy()
        faces, weights = model.faces.numpy(), model.weights.double().numpy()
        names = model.skeleton.names
        jaw = weights[:, names.index("jaw")][faces].mean(1)
        eyes = weights[:, [names.index(f"{side}_eye_smplhf") for side in ("left", "right")]].sum(1)[faces].mean(1)
        head = weights[:, [names.index(n) for n in ("head", "jaw", "neck")]].sum(1)[faces].mean(1)
        a, b, c = (self.vertices[faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        origin = self.vertices[model.keypoint_vertices[0]]
        middle = (a + b + c) / 3
        front = (eyes < 0.5) & (head > 0.5) & (normal[:, 2] > -0.3) & (middle[:, 2] > origin[2] - 0.16)
        self.parts = {"all": front, "upper": front & (jaw < 0.35), "lower": front & (jaw > 0.35)}
        self.faces = faces

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(468,) triangles of the mesh and (468, 3) barycentric coordinates of the places nearest to the points."""
        triangle, bary = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
        rows = {"upper": list(UPPER_LIP), "lower": list(LOWER_LIP)}
        rows["all"] = sorted(set(range(len(points))) - set(UPPER_LIP) - set(LOWER_LIP))
        for name, some in rows.items():
            triangle[some], bary[some] = nearest_on(
                self.vertices, self.faces, np.flatnonzero(self.parts[name]), points[some]
            )
        return triangle, bary

    def at(self, triangle: np.ndarray, bary: np.ndarray, vertices: np.ndarray | None = None) -> np.ndarray:
        """The places on these vertices."""
        vertices = self.vertices if vertices is None else vertices
        return np.einsum("nk,nkc->nc", bary, vertices[self.faces[triangle]])


def nearest_on(
    vertices: np.ndarray, faces: np.ndarray, rows: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) triangles, of some rows of `faces`, and (N, 3) barycentric coordinates of the places nearest to points."""
    corners = vertices[faces[rows]]
    near = cKDTree(corners.mean(1)).query(points, k=min(NEAR, len(rows)))[1]  # (N, k)
    at = trimesh.triangles.closest_point(corners[near.ravel()], np.repeat(points, near.shape[1], 0))
    off = np.linalg.norm(at.reshape(*near.shape, 3) - points[:, None], axis=2)
    best = off.argmin(1)
    chosen, places = near[np.arange(len(points)), best], at.reshape(*near.shape, 3)[np.arange(len(points)), best]
    bary = trimesh.triangles.points_to_barycentric(corners[chosen], places).clip(0)
    return rows[chosen], bary / bary.sum(1, keepdims=True)


def landmarks(model: bodyfit.BodyModel) -> np.ndarray:
    """(68, 3) landmarks of the neutral face, in iBUG's order."""
    marks, vertices, faces = model.landmarks, model.v_template.double().numpy(), model.faces.numpy()
    inner = np.einsum("nk,nkc->nc", marks.bary_coords, vertices[faces[marks.faces_idx]])
    jaw = np.einsum("nk,nkc->nc", marks.contour_bary_coords[0], vertices[faces[marks.contour_faces_idx[0]]])
    return np.concatenate([jaw, inner])


def register(canonical: np.ndarray, model: bodyfit.BodyModel, skin: Skin) -> tuple[np.ndarray, np.ndarray]:
    """The places of the 468 points."""
    marks, rows = landmarks(model), np.array(FACE_IBUG68)
    inner = slice(17, None)
    points = align(canonical[rows[inner]], marks[inner])(canonical)
    # The jaw's contour is an outline in a picture and no line on the face: it is followed loosely.
    loose = np.concatenate([np.full(17, 4e-5), np.full(51, 1e-6)])
    first, keep = points[rows], np.unique(rows, return_index=True)[1]
    spline = RBFInterpolator(first[keep], (marks - first)[keep], smoothing=loose[keep], kernel="thin_plate_spline")
    points = points + spline(points)
    for step in range(STEPS):
        triangle, bary = skin.nearest(points)
        moved = skin.at(triangle, bary) - points
        stiff = 3e-4 * 0.5**step
        points = points + RBFInterpolator(points, moved, smoothing=stiff, neighbors=60)(points)
        off = 1000 * np.linalg.norm(moved, axis=1)
        print(f"step {step}: {off.mean():.2f} mm from the skin in the mean, {off.max():.2f} at most")
    return skin.nearest(points)


def irises(model: bodyfit.BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """(2,) triangles and (2, 3) coordinates of the front poles of the right and the left eyeball."""
    vertices, faces = model.v_template.double().numpy(), model.faces.numpy()
    triangle, bary = [], []
    for side in ("right", "left"):
        on_eye = model.weights[:, model.skeleton.index(f"{side}_eye_smplhf")].numpy() > 0.9
        own = np.flatnonzero(on_eye[faces].all(1))
        centre = vertices[on_eye].mean(0)
        reach = np.linalg.norm(vertices[on_eye] - centre, axis=1).max()
        at, weights = nearest_on(vertices, faces, own, (centre + np.array([1e-5, 1e-5, 1.2 * reach]))[None])
        triangle.append(at[0])
        bary.append(weights[0])
    return np.array(triangle), np.array(bary)


def report(model: bodyfit.BodyModel, skin: Skin, triangle: np.ndarray, bary: np.ndarray) -> None:
    """Print how lips and lids part, neutral and with an open mouth or closed eyes."""
    open_mouth = model(jaw_pose=torch.tensor([[0.35, 0.0, 0.0]])).vertices[0].double().numpy()
    pairs = {"inner lips": (13, 14), "outer lips": (0, 17), "right lids": (159, 145), "left lids": (386, 374)}
    for name, (a, b) in pairs.items():
        neutral, opened = (skin.at(triangle, bary, v) for v in (None, open_mouth))
        gaps = [1000 * np.linalg.norm(p[a] - p[b]) for p in (neutral, opened)]
        print(f"{name}: {gaps[0]:.1f} mm apart, {gaps[1]:.1f} with the jaw turned by 20 degrees")
    off = skin.at(triangle, bary)[list(FACE_IBUG68)][17:] - landmarks(model)[17:]
    print(f"from the 51 inner landmarks: {1000 * np.linalg.norm(off, axis=1).mean():.1f} mm in the mean")


def draw(model: bodyfit.BodyModel, skin: Skin, triangle: np.ndarray, bary: np.ndarray, path: Path) -> None:
    """The points on the neutral face and on one with an open mouth, from the front."""
    from PIL import Image, ImageDraw

    from bodyfit import render

    panels = []
    for turn in (0.0, 0.3):
        body = model(jaw_pose=torch.tensor([[turn, 0.0, 0.0]]))
        points = skin.at(triangle, bary, body.vertices[0].double().numpy())
        centre, half = points.mean(0), 0.11
        flip = np.array([1.0, -1.0, -1.0])
        vertices = torch.tensor((body.vertices[0].double().numpy() - centre) * flip + [0, 0, 2.0], dtype=torch.float32)
        size, focal = 900, 2.0 * 450 / half
        camera = bodyfit.Camera.make(1, (size, size), focal_px=focal)
        white = np.full((size, size, 3), 255, np.uint8)
        picture = Image.fromarray(render.overlay(white, [(vertices, (0.8, 0.7, 0.6))], model.faces, camera))
        pen = ImageDraw.Draw(picture)
        seen = (points - centre) * flip + [0, 0, 2.0]
        for k, (x, y, z) in enumerate(seen):
            u, v = focal * x / z + size / 2, focal * y / z + size / 2
            color = (200, 0, 0) if k in UPPER_LIP else (0, 0, 200) if k in LOWER_LIP else (0, 90, 0)
            pen.ellipse((u - 3, v - 3, u + 3, v + 3), fill=color)
        panels.append(np.asarray(picture))
    Image.fromarray(np.concatenate(panels, 1)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay MediaPipe's canonical face on the open face.")
    parser.add_argument("--canonical", type=Path, required=True, help="canonical-face-model.obj")
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/body/face468.npz"))
    parser.add_argument("--picture", type=Path, help="where to draw the points")
    args = parser.parse_args()
    model = bodyfit.load_model("open-x")
    skin = Skin(model)
    triangle, bary = register(canonical_points(args.canonical), model, skin)
    report(model, skin, triangle, bary)
    iris, iris_bary = irises(model)
    source = "scripts/build/face_points.py; MediaPipe's canonical face model, Apache-2.0"
    arrays = {
        "vertices": model.faces.numpy()[np.concatenate([triangle, iris])].astype(np.uint16),
        "weights": np.concatenate([bary, iris_bary]).astype(np.float32),
        "source": np.array(source),
    }
    write_npz(args.output, arrays)
    print(f"wrote {args.output}: 468 points and the right and the left iris")
    if args.picture is not None:
        draw(model, skin, triangle, bary, args.picture)


if __name__ == "__main__":
    main()
