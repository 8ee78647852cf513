"""How well the interpenetration term of the fit resolves what a mesh-exact check finds.

Draws random poses far wider than the prior, keeps those whose mesh runs into itself most, and minimises the term with
one that holds all joints where they are. Uninvolved joints are those that lie neither between two touching parts in
the tree nor beyond the touching parts.

    python -m scripts.bench.bodies.interpenetration [--draws 3000] [--worst 200] [--term capsules] [--pictures DIR]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

import bodyfit
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.fit.residuals.capsules import CapsuleOverlap
from bodyfit.fit.residuals.spheres import SphereOverlap
from bodyfit.solve import LMConfig, Normal, minimize
from scripts.bench.records import harness


def wide_poses(n: int, seed: int, spread: float) -> Tensor:
    """(n, 69) poses: the prior's samples with `spread` times their deviation from its mean, within the joint limits."""
    prior = bodyfit.load_pose_prior()
    poses = prior.mean + spread * (prior.sample(n, seed=seed) - prior.mean)
    return torch.from_numpy(poses.clip(prior.limits_lower, prior.limits_upper))


@dataclass(frozen=True)
class Separation:
    """The term on the pose, with joints and angles held where they are; implements `solve.Problem`."""

    overlap: CapsuleOverlap | SphereOverlap
    joints: Points
    betas: Tensor
    start: Tensor
    """(B, 3 + P) transl and pose at the start."""
    at: Tensor
    """(B, J, 3) joints at the start."""
    weight: float
    hold_joints: Tensor
    """(B, J) of a centimetre."""
    hold_angles: float
    """Of a radian."""

    def select(self, index: Tensor) -> Separation:
        """Some of the people."""
        return replace(
            self,
            betas=self.betas[index],
            start=self.start[index],
            at=self.at[index],
            hold_joints=self.hold_joints[index],
        )

    def normal(self, x: Tensor) -> Normal:
        """Cost, J^T r and J^T J at x."""
        tree = pose_tree(self.joints.model, self.betas, x[:, 3:].unflatten(1, (-1, 3)))
        placed = self.joints.place(tree, self.betas)
        eye = torch.eye(3).to(x).expand(*placed.positions.shape, 3)
        weight = 100 * self.hold_joints[..., None]
        rows = (weight[..., None] * torch.cat([eye, placed.jacobian_pose()], 3)).flatten(1, 2)
        r = (weight * (placed.positions + x[:, None, :3] - self.at)).flatten(1)
        turned = self.hold_angles * (x - self.start)
        gradient = (rows.mT @ r[..., None])[..., 0] + self.hold_angles * turned
        hessian = rows.mT @ rows + self.hold_angles**2 * torch.eye(x.shape[1]).to(x)
        touching, w2 = self.overlap.own_points.place(tree, self.betas), self.weight**2
        term = self.overlap(touching.positions, self.betas)
        assert term.rows is not None
        by_pose = touching.pull_back(term.rows)
        gradient[:, 3:] += w2 * touching.pull_back(term.force)
        hessian[:, 3:, 3:] += w2 * by_pose.mT @ by_pose
        return Normal(r.square().sum(1) + turned.square().sum(1) + w2 * term.cost, gradient, hessian)


def involved(model: bodyfit.BodyModel, depth_m: Tensor) -> np.ndarray:
    """(B, J) joints that lie between touching parts in the tree, or beyond them."""
    parents, n_j = model.parents, model.num_joints
    above = np.eye(n_j, dtype=bool)
    for j, p in enumerate(parents):
        if p >= 0:
            above[j] |= above[p]
    owner = model.weights.argmax(1).numpy()
    rows = []
    for depth in depth_m.numpy():
        touching = np.unique(owner[depth > 0])
        shared = above[touching].all(0)
        between = above[touching].any(0) & ~shared
        between[shared.nonzero()[0][-1:]] = True  # the nearest joint that all hang on
        rows.append(between | above[:, [t for t in touching if not shared[t]]].any(1))
    return np.array(rows)


_shared: dict[str, Tensor] = {}


def _checked(rows: slice) -> tuple[Tensor, Tensor]:
    found = bodyfit.interpenetration(_shared["vertices"][rows], _shared["faces"])
    return found.depth_m, found.other


def depths(vertices: Tensor, faces: Tensor, workers: int) -> tuple[Tensor, Tensor]:
    """(B, V) depth and other skin by the mesh-exact check, in processes."""
    _shared.update(vertices=vertices, faces=faces)
    parts = [slice(i, i + 8) for i in range(0, len(vertices), 8)]
    if workers == 1:
        found = [_checked(p) for p in parts]
    else:
        with get_context("fork").Pool(workers) as pool:
            found = pool.map(_checked, parts, chunksize=1)
    depth, other = zip(*found, strict=True)
    return torch.cat(depth), torch.cat(other)


def between_neighbours(model: bodyfit.BodyModel, other: Tensor) -> Tensor:
    """(B, V) whether skin touches a part that its own hangs on: an upper arm the trunk, a thigh the trunk or thigh,
    one part of a limb the next. Such folds are flesh that gives way, and no capsules tell them from a pose's own."""
    names = model.skeleton.names
    part = {n: "trunk" for n in names if n.startswith(("pelvis", "spine", "neck")) or n.endswith("collar")}
    part |= {n: n.replace("hand", "wrist").replace("foot", "ankle") for n in names if n not in part}
    kinds = sorted(set(part.values()))
    meets = torch.eye(len(kinds), dtype=torch.bool)
    chains = [["trunk", *(f"{side}_{p}" for p in limb)] for side in ("left", "right")
              for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))]  # fmt: skip
    for a, b in [*(pair for chain in chains for pair in pairwise(chain)), ("left_hip", "right_hip"), ("trunk", "head")]:
        meets[kinds.index(a), kinds.index(b)] = meets[kinds.index(b), kinds.index(a)] = True
    of_vertex = torch.tensor([kinds.index(part[names[j]]) for j in model.weights.argmax(1).tolist()])
    return (other >= 0) & meets[of_vertex.expand_as(other), of_vertex[other.clamp_min(0)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--worst", type=int, default=200)
    parser.add_argument("--spread", type=float, default=1.5, help="of the draws, in the prior's own")
    parser.add_argument("--term", choices=["capsules", "spheres"], default="capsules")
    parser.add_argument("--cover", type=float, default=1.35, help="of the capsules' radii")
    parser.add_argument("--weight", type=float, help="of the term; default 10 for capsules, 3000 for spheres")
    parser.add_argument("--hold-joints", type=float, default=1.0, help="of a centimetre; uninvolved ones ten times")
    parser.add_argument("--hold-angles", type=float, default=3.0, help="of a radian")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = bodyfit.load_model()
    betas = torch.from_numpy(np.random.default_rng(args.seed).standard_normal((args.draws, 10)).clip(-2, 2)).float()
    pose = wide_poses(args.draws, args.seed, args.spread).float()
    depth, other = depths(model(betas=betas, body_pose=pose).vertices, model.faces, args.workers)
    apart = depth * ~between_neighbours(model, other)
    worst = apart.amax(1).argsort(descending=True)[: args.worst]
    before, all_before = apart[worst], depth[worst]
    betas, pose = betas[worst], pose[worst]
    start = torch.cat([torch.zeros(len(worst), 6), pose], 1)
    joints = Points(model, [{name: 1.0} for name in model.skeleton.names])
    held = model(betas=betas, body_pose=pose)
    term = CapsuleOverlap(model, cover=args.cover) if args.term == "capsules" else SphereOverlap(model)
    weight = args.weight or {"capsules": 10.0, "spheres": 3000.0}[args.term]
    chain = involved(model, before)
    hold = args.hold_joints * torch.where(torch.from_numpy(chain), 1.0, 10.0)
    problem = Separation(term, joints, betas, start, held.joints, weight, hold, args.hold_angles)
    begin = time.perf_counter()
    x, summary = minimize(problem, start, LMConfig(max_iterations=60))
    seconds = time.perf_counter() - begin
    moved = model(betas=betas, body_pose=x[:, 6:], global_orient=x[:, 3:6], transl=x[:, :3])
    all_after, other = depths(moved.vertices, model.faces, args.workers)
    after = all_after * ~between_neighbours(model, other)
    away = 100 * (moved.joints - held.joints).norm(dim=2).numpy()
    free = np.where(chain, np.nan, away)
    deepest, left = before.amax(1), after.amax(1)
    found = {
        "term": args.term,
        "people": len(worst),
        "deepest_before_cm": round(100 * float(deepest.mean()), 2),
        "deepest_after_cm": round(100 * float(left.mean()), 2),
        "removed_of_deepest": round(1 - float(left.sum() / deepest.sum()), 3),
        "removed_of_all_vertices": round(1 - float(after.sum() / before.sum()), 3),
        "removed_with_neighbours": round(1 - float(all_after.sum() / all_before.sum()), 3),
        "removed_of_deepest_with_neighbours": round(1 - float(all_after.amax(1).sum() / all_before.amax(1).sum()), 3),
        "people_below_1cm": int((left < 0.01).sum()),
        "involved_moved_cm": round(float(away[chain].mean()), 2),
        "uninvolved_joints": int((~chain).sum()),
        "uninvolved_moved_cm": round(float(np.nanmean(free)), 2),
        "uninvolved_moved_p95_cm": round(float(np.nanquantile(free, 0.95)), 2),
        "iterations": round(float(summary.iterations.double().mean()), 1),
        "ms_per_person": round(1e3 * seconds / len(worst), 2),
    }
    print(json.dumps(found))
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
