"""How near clothed surfaces come to what dressed people look like from outside, by one picture.

People and poses are held out, and so are their garments, shoes, hats and hair (`scripts/train/clothed/people.py`), each
drawn by one camera at 640x640. `naked` is the body, `outline` the body pushed along its normals to the mask's outline
(the avatars' way, from one view), `network` is `bodyfit.clothed_surface`, `true clothes` the moves of the network's
anchors that bring the true body nearest to the true surface (`best_moves`): over exact bodies the best that is
possible, over fits what they would be if clothes were known and poses were not mended. Chamfer: mean of both ways' mean
distances, mm, between points that can be seen from outside; squares: of both ways' mean squared distances added, cm^2
(Mesh R-CNN's). IoU: of the silhouette and the true mask, before the camera and before one a quarter round.

`exact`: exact bodies and masks. `masks`: exact bodies, masks of the shipped detector. `fits`: bodyfit's own fits to the
picture (`fit --silhouette`) and its masks; truth and surfaces are compared after the similarity that takes the fit's
vertices to the true body's.

    python -m scripts.bench.avatars.surface CLIPS [CLIPS ...] [-n 40] [--first 0] [--fits 20]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from rich.console import Console
from rich.table import Table
from scipy.spatial import KDTree

import bodyfit
from bodyfit.app.parts import detector_of_parts
from bodyfit.app.pipeline import Lens, as_frame, fit_detections
from bodyfit.avatars import AvatarView
from bodyfit.avatars.make import _limits
from bodyfit.avatars.outward import outward
from bodyfit.avatars.posed import posed_views, rest_surface
from bodyfit.body.params import BodyParams
from bodyfit.clothed import ClothedSurface, clothed_surface
from bodyfit.geometry.camera import CalibratedCamera, Camera, turned_orient
from bodyfit.geometry.mesh_tree import MeshTree
from bodyfit.geometry.procrustes import align
from bodyfit.images.similarity import mask_iou
from bodyfit.keypoints import SoftMask
from bodyfit.raster.depth import depth_map
from scripts.bench.avatars.best_moves import best_surface
from scripts.bench.records import harness
from scripts.train.clothed.people import Posed, View, draw_one, people, views, worn_pieces
from scripts.train.clothed.truth import outer_points, solid_mesh
from scripts.train.conditional.motion import read_motion
from scripts.train.field_pictures import background

__all__ = ["main"]

_SIZE = 640
_CELL_M = 0.006
_ROWS = ("naked", "outline", "network", "true clothes")


@dataclass(frozen=True, eq=False)
class Case:
    """A person before a camera."""

    person: Posed
    view: View
    image: UInt8[np.ndarray, "S S 3"]
    mask: Bool[np.ndarray, "S S"]
    params: BodyParams
    """The true body in the camera's axes."""
    camera: Camera
    points: Float[np.ndarray, "N 3"]
    """Of the true surface, camera axes."""
    side: Bool[np.ndarray, "S S"]
    """The true silhouette before the camera a quarter round."""


def case_of(person: Posed, rng: np.random.Generator) -> Case:
    """Draw a person, at whose middle the camera looks."""
    view = views(person, 1, rng, size=_SIZE)[0]
    t = view.t * (0, 0, 1)
    vertices, faces = solid_mesh(person.dressed)
    at = vertices @ view.R.T + t
    reach = np.abs(at[:, :2] / np.maximum(at[:, 2:], 0.2)).max()
    view = View(view.R, t, np.array([0.46 * _SIZE / reach, _SIZE / 2, _SIZE / 2]))
    drawn = draw_one(person.dressed, view, _SIZE)
    y, x = (np.mgrid[:_SIZE, :_SIZE] + 0.5 - view.lens[[2, 1], None, None]) / view.lens[0]
    ahead = np.stack([x, -y, -np.ones_like(x)], 2)
    behind = 255 * background(int(rng.integers(1000)), ahead / np.linalg.norm(ahead, axis=2, keepdims=True)) ** (
        1 / 2.2
    )
    image = (drawn[..., :3] + (1 - drawn[..., 3:] / 255) * behind).clip(0, 255).astype(np.uint8)
    points, _ = outer_points(vertices, faces, _CELL_M, pixel_m=0.005)
    orient = turned_orient(person.params.global_orient.double().numpy(), view.R)
    model = bodyfit.load_model()
    params = model.params(**dict(person.params) | {"global_orient": torch.from_numpy(orient).float()})
    with torch.no_grad():
        room, turned = model(**person.params).joints[0, 0].numpy(), model(**params).joints[0, 0].numpy()
    shift = torch.from_numpy(room @ view.R.T + view.t - turned).float()
    params = model.params(**dict(params) | {"transl": params.transl + shift})
    camera = Camera.make(1, (_SIZE, _SIZE), focal_px=float(view.lens[0]))
    side = silhouette(quarter(at, t), faces, view.lens)
    return Case(person, view, image, drawn[..., 3] > 127, params, camera, points @ view.R.T + view.t, side)


def quarter(points: Float[np.ndarray, "N 3"], centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "N 3"]:
    """Turn points a quarter about the vertical through a centre."""
    R = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    return (points - centre) @ R.T + centre


def silhouette(points: np.ndarray, faces: np.ndarray, lens: np.ndarray) -> Bool[np.ndarray, "S S"]:
    """Draw a silhouette."""
    return depth_map(points, faces, float(lens[0]), (float(lens[1]), float(lens[2])), (_SIZE, _SIZE)).faces >= 0


def outline(case: Case, params: BodyParams, mask: Bool[np.ndarray, "S S"], *, exact: bool) -> Float[np.ndarray, "V 3"]:
    """Push a body to the mask's outline."""
    model = bodyfit.load_model()
    f, cx, cy = case.view.lens
    camera = CalibratedCamera(K=np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), R=np.eye(3), t=np.zeros(3))
    rest, normals = rest_surface(model, params)
    (view,) = posed_views([AvatarView(case.image, mask, camera, params)], model, normals)
    return view.moved(outward([view], rest, model.faces.numpy(), _limits(model), exact=exact)).points


def scores(
    case: Case,
    vertices: Float[np.ndarray, "V 3"],
    shown: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"] | None = None,
) -> dict[str, float]:
    """Score a surface. vertices: where it is compared with the truth; shown: before the camera; faces: the body's."""
    faces = bodyfit.load_model().faces.numpy() if faces is None else faces
    points, _ = outer_points(vertices, faces, _CELL_M, pixel_m=0.005)
    there = KDTree(case.points).query(points)[0]
    back = MeshTree(vertices, faces).nearest(case.points).distance
    front, side = (
        silhouette(shown, faces, case.view.lens),
        silhouette(quarter(vertices, case.view.t), faces, case.view.lens),
    )
    return {
        "chamfer_mm": 500 * float(there.mean() + back.mean()),
        "squares_cm2": 1e4 * float((there**2).mean() + (back**2).mean()),
        "to_truth_mm": 1e3 * float(there.mean()),
        "from_truth_mm": 1e3 * float(back.mean()),
        "iou": mask_iou(front, case.mask),
        "iou_side": mask_iou(side, case.side),
    }


def exact_rows(case: Case, mask: Bool[np.ndarray, "S S"] | SoftMask, *, exact: bool) -> dict[str, Any]:
    """Score all surfaces over the true body."""
    model = bodyfit.load_model()
    with torch.no_grad():
        naked = model(**case.params).vertices[0].double().numpy()
    full = mask.full((_SIZE, _SIZE)) > 127 if isinstance(mask, SoftMask) else mask
    start = time.process_time()
    moved = clothed_surface(case.params, case.image, mask, case.camera).vertices_m[0]
    seconds = time.process_time() - start
    surfaces = {"naked": naked, "outline": outline(case, case.params, full, exact=exact), "network": moved}
    if exact:
        surfaces["true clothes"] = best_surface(case)
    return {name: scores(case, at, at) for name, at in surfaces.items()} | {"seconds": seconds}


def fitted_rows(case: Case, detector: Any) -> tuple[dict[str, Any] | None, SoftMask | None]:
    """Score all surfaces over the fit to the picture; None where nobody is found, and the mask."""
    frame = as_frame(case.image)
    found = detector.detect([frame])[0]
    if not found or not isinstance(found[0].mask, SoftMask):
        return None, None
    result = fit_detections([frame], [found[:1]], lens=Lens(focal_px=float(case.view.lens[0])))[0][0]
    if not result.status[0].ok:
        return None, found[0].mask
    model = bodyfit.load_model()
    with torch.no_grad():
        naked = model(**result.params).vertices[0].double().numpy()
        true = model(**case.params).vertices[0].double().numpy()
    onto = align(naked, true)
    moved = clothed_surface(result.params, case.image, found[0].mask, result.camera).vertices_m[0]
    pushed = outline(case, result.params, found[0].mask.full((_SIZE, _SIZE)) > 127, exact=False)
    surfaces = {"naked": naked, "outline": pushed, "network": moved, "true clothes": true_clothes(case, result.params)}
    rows: dict[str, Any] = {name: scores(case, onto(at), at) for name, at in surfaces.items()}
    return rows | {"vertices_mm": 1e3 * float(np.linalg.norm(onto(naked) - true, axis=1).mean())}, found[0].mask


def true_clothes(case: Case, params: BodyParams) -> Float[np.ndarray, "V 3"]:
    """Dress a body in the moves that bring the true one nearest to the true surface."""
    model = bodyfit.load_model()
    dressed = ClothedSurface(best_surface(case)[None], case.params, model, (True,), (True,), (None,)).person_model(0)
    with torch.no_grad():
        return dressed(**params).vertices[0].double().numpy()


def report(parts: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print a table; returns means."""
    table = Table("bodies", "surface", "chamfer mm", "of naked", "squares cm2", "of naked", "IoU", "IoU from the side")
    means: dict[str, Any] = {}
    for part, entries in parts.items():
        if not entries:
            continue
        rows = [row for row in _ROWS if row in entries[0]]
        own = {row: {k: float(np.mean([e[row][k] for e in entries])) for k in entries[0][row]} for row in rows}
        means[part] = own | {"people": len(entries)}
        for row in rows:
            one, naked = own[row], own["naked"]
            cells = [
                f"{one[k]:.1f}" if f == 0 else f"{one[k] / naked[k]:.0%}"
                for k in ("chamfer_mm", "squares_cm2")
                for f in (0, 1)
            ]
            table.add_row(f"{part} ({len(entries)})", row, *cells, f"{one['iou']:.3f}", f"{one['iou_side']:.3f}")
    Console(width=120).print(table)
    return means


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=40, help="people")
    parser.add_argument("--first", type=int, default=0, help="seed of the people")
    parser.add_argument("--fits", type=int, default=20, help="so many of them are fitted, too")
    harness.add_json_option(parser)
    args = parser.parse_args()
    _, motion = read_motion(args.clips, 5.0)
    rng = np.random.default_rng([args.first, 83])
    detector = detector_of_parts("movenet", {}, masks=True) if args.fits else None
    parts: dict[str, list[dict[str, Any]]] = {"exact": [], "masks": [], "fits": []}
    for i, person in enumerate(people(args.n, motion, 900 + args.first, held_out=True)):
        case = case_of(person, rng)
        own = exact_rows(case, case.mask, exact=True)
        parts["exact"].append(own | {"person": i, "worn": worn_pieces(person.outfit)})
        if detector is not None and i < args.fits:
            fitted, mask = fitted_rows(case, detector)
            if mask is not None:
                parts["masks"].append(exact_rows(case, mask, exact=False) | {"person": i})
            if fitted is not None:
                parts["fits"].append(fitted | {"person": i})
    means = report(parts)
    seconds = [entry["seconds"] for entry in parts["exact"]][1:]
    if seconds:
        means["seconds"] = float(np.median(seconds))
        print(f"{means['seconds']:.3f} s of CPU a person")
    harness.write_json(args, {"means": means})


if __name__ == "__main__":
    main()
