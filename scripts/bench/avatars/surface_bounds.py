"""How near clothed surfaces of the body's topology could come to skirts and hanging hair, and how near voxels could.

People, poses and garments are drawn as `surface` draws them, but in a skirt, or with long hair, over exact bodies with
exact masks. `network` is `bodyfit.clothed_surface`; `best moves` are the moves of the network's anchors, found by
descent on the network's own losses (scripts/train/clothed/losses.py), that bring the body nearest to the true surface;
`voxels 48` and `voxels 64` are the true surface's inside on a grid of so many cells along its longest side, as
occupied parts of cells whose level 0.5 is drawn by marching cubes; `cubes 48` takes whole cells (PyTorch3D's
cubify, as in Mesh R-CNN). No network could do better than its column's truth.

    python -m scripts.bench.avatars.surface_bounds CLIPS [CLIPS ...] [-n 8] [--first 0]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pytorch3d.ops import cubify
from pytorch3d.ops.marching_cubes import marching_cubes
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.appearance import dress
from bodyfit.clothed import clothed_surface
from bodyfit.raster.depth import nearest_faces
from scripts.bench.avatars.best_moves import best_surface
from scripts.bench.avatars.surface import Case, case_of, scores
from scripts.bench.records import harness
from scripts.train.clothed.mesh import directions
from scripts.train.clothed.people import Posed, people
from scripts.train.clothed.truth import solid_mesh
from scripts.train.conditional.motion import read_motion

__all__ = ["main", "occupancy"]

_VIEWS, _PIXEL_M = 40, 0.005
_PARTS = 3
"""Points along each side of a cell that are asked whether they lie inside."""
_LONG_HAIR = ("long01", "braid01", "ponytail01", "bob01")


def occupancy(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], cells: int
) -> tuple[Float[np.ndarray, "X Y Z"], Float[np.ndarray, "3"], float]:
    """Parts of cells that lie inside: behind the surface for parallel cameras all round; corner and side, metres."""
    low, high = vertices[faces].min((0, 1)), vertices[faces].max((0, 1))
    side = float((high - low).max()) / (cells - 2)
    size = np.ceil((high - low) / side).astype(int) + 2
    corner = (low + high) / 2 - size * side / 2
    steps = [(np.arange(n * _PARTS) + 0.5) * side / _PARTS + c for n, c in zip(size, corner, strict=True)]
    at = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    inside = np.arange(len(at))
    for R in directions(_VIEWS):
        inside = inside[_behind(at[inside] @ R.T.astype(np.float32), vertices @ R.T, faces)]
    full = np.zeros(len(at), np.float32)
    full[inside] = 1
    x, y, z = size
    parts = full.reshape(x, _PARTS, y, _PARTS, z, _PARTS).mean((1, 3, 5))
    return parts, corner, side


def _behind(
    at: Float[np.ndarray, "N 3"], turned: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Bool[np.ndarray, "N"]:
    """Tell the points that a parallel camera along z does not see past the surface."""
    low = turned[faces].min((0, 1))
    xy = (turned[:, :2] - low[:2]) / _PIXEL_M
    size = np.ceil(xy[faces].max((0, 1))).astype(int) + 1
    found, nearness = nearest_faces(np.concatenate([xy, -turned[:, 2:]], 1), faces, (int(size[0]), int(size[1])))
    column, row = np.floor((at[:, :2] - low[:2]) / _PIXEL_M).astype(int).T
    shown = (column >= 0) & (row >= 0) & (column < size[0]) & (row < size[1])
    column, row = np.where(shown, column, 0), np.where(shown, row, 0)
    return shown & (found[row, column] >= 0) & (at[:, 2] >= -nearness[row, column] - _PIXEL_M / 2)


def marched(
    parts: Float[np.ndarray, "X Y Z"], corner: Float[np.ndarray, "3"], side: float
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """The level 0.5 by marching cubes."""
    vertices, faces = marching_cubes(torch.from_numpy(parts.transpose(2, 1, 0).copy())[None], 0.5, False)
    return corner + (vertices[0].double().numpy() + 0.5) * side, faces[0].numpy().astype(np.int64)


def cubes(
    parts: Float[np.ndarray, "X Y Z"], corner: Float[np.ndarray, "3"], side: float
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Cells at least half full, as cubes."""
    mesh = cubify(torch.from_numpy(parts.transpose(2, 1, 0).copy())[None], 0.5)
    unit = (
        mesh.verts_list()[0].double().numpy()
    )  # from the first cell's first corner, (-1, -1, -1), over the grid's cells but one
    cells = np.array(parts.shape)
    return corner + (unit + 1) / 2 * (cells - 1) * side, mesh.faces_list()[0].numpy()


def _worn(person: Posed, kind: str, number: int) -> Posed:
    hair = _LONG_HAIR[number % len(_LONG_HAIR)]
    changes = {"whole": None, "upper": "blouse", "lower": "skirt"} if kind == "skirt" else {"hat": None, "hair": hair}
    outfit = replace(person.outfit, **changes)
    return Posed(person.params, outfit, dress(person.params, model=bodyfit.load_model(), outfit=outfit)[0])


def rows(case: Case) -> dict[str, Any]:
    """Score all surfaces of one person."""
    model = bodyfit.load_model()
    with torch.no_grad():
        naked = model(**case.params).vertices[0].double().numpy()
    found = clothed_surface(case.params, case.image, case.mask, case.camera).vertices_m[0]
    own = {"naked": naked, "network": found, "best moves": best_surface(case)}
    table = {name: scores(case, at, at) for name, at in own.items()}
    vertices, faces = solid_mesh(case.person.dressed)
    faces = np.concatenate([faces, model.faces.numpy() + len(vertices)])  # skin under clothes is left out of the former
    at = np.concatenate([vertices @ case.view.R.T + case.view.t, naked])
    for cells in (48, 64):
        grid = occupancy(at, faces, cells)
        made = {f"voxels {cells}": marched(*grid)} | ({"cubes 48": cubes(*grid)} if cells == 48 else {})
        table |= {name: scores(case, one[0], one[0], one[1]) for name, one in made.items()}
    return table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=8, help="people of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the people")
    harness.add_json_option(parser)
    args = parser.parse_args()
    _, motion = read_motion(args.clips, 5.0)
    rng = np.random.default_rng([args.first, 97])
    results: dict[str, list[dict[str, Any]]] = {"skirt": [], "long hair": []}
    for kind, entries in results.items():
        for i, one in enumerate(people(args.n, motion, 1700 + args.first, held_out=True)):
            entries.append(rows(case_of(_worn(one, kind, i), rng)))
    table = Table("people", "surface", "chamfer mm", "of naked", "from the truth mm", "IoU", "IoU from the side")
    means: dict[str, Any] = {}
    for kind, entries in results.items():
        means[kind] = {n: {k: float(np.mean([e[n][k] for e in entries])) for k in entries[0][n]} for n in entries[0]}
        for name, one in means[kind].items():
            share = one["chamfer_mm"] / means[kind]["naked"]["chamfer_mm"]
            words = (f"{one['chamfer_mm']:.1f}", f"{share:.0%}", f"{one['from_truth_mm']:.1f}")
            table.add_row(f"{kind} ({len(entries)})", name, *words, f"{one['iou']:.3f}", f"{one['iou_side']:.3f}")
    Console(width=120).print(table)
    harness.write_json(args, {"people": results, "means": means})


if __name__ == "__main__":
    main()
