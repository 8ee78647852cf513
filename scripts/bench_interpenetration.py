"""How well the interpenetration term of the fit resolves what a mesh-exact check finds.

Draws random poses far wider than the prior, keeps those whose mesh runs into itself most, and minimises the term with
one that holds all joints where they are. Uninvolved joints are those that lie neither between two touching parts in
the tree nor beyond the touching parts.

    python scripts/bench_interpenetration.py [--draws 3000] [--worst 200] [--term capsules] [--pictures DIR]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bodyfit
from bodyfit.body.points import Points, pose_tree
from bodyfit.fit.overlap import CapsuleOverlap, SphereOverlap
from bodyfit.solve import LMConfig, Normal, minimize

TERMS = {"capsules": CapsuleOverlap, "spheres": SphereOverlap}


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
    hold_joints: float
    """Of a centimetre."""
    hold_angles: float
    """Of a radian."""

    def select(self, index: Tensor) -> Separation:
        """Some of the people."""
        return replace(self, betas=self.betas[index], start=self.start[index], at=self.at[index])

    def normal(self, x: Tensor) -> Normal:
        """Cost, J^T r and J^T J at x."""
        tree = pose_tree(self.joints.model, self.betas, x[:, 3:].unflatten(1, (-1, 3)))
        placed = self.joints.place(tree, self.betas)
        eye = torch.eye(3).to(x).expand(*placed.positions.shape, 3)
        rows = 100 * self.hold_joints * torch.cat([eye, placed.jacobian_pose()], 3).flatten(1, 2)
        r = 100 * self.hold_joints * (placed.positions + x[:, None, :3] - self.at).flatten(1)
        turned = self.hold_angles * (x - self.start)
        gradient = (rows.mT @ r[..., None])[..., 0] + self.hold_angles * turned
        hessian = rows.mT @ rows + self.hold_angles**2 * torch.eye(x.shape[1]).to(x)
        term, w2 = self.overlap(tree, self.betas), self.weight**2
        gradient[:, 3:] += w2 * term.gradient
        hessian[:, 3:, 3:] += w2 * term.hessian
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


def _deepest(rows: slice) -> Tensor:
    return bodyfit.interpenetration(_shared["vertices"][rows], _shared["faces"]).depth_m


def depths(vertices: Tensor, faces: Tensor, workers: int) -> Tensor:
    """(B, V) depth by the mesh-exact check, in processes."""
    _shared.update(vertices=vertices, faces=faces)
    parts = [slice(i, i + 8) for i in range(0, len(vertices), 8)]
    if workers == 1:
        return torch.cat([_deepest(p) for p in parts])
    with get_context("fork").Pool(workers) as pool:
        return torch.cat(pool.map(_deepest, parts, chunksize=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--worst", type=int, default=200)
    parser.add_argument("--spread", type=float, default=1.5, help="of the draws, in the prior's own")
    parser.add_argument("--term", choices=TERMS, default="capsules")
    parser.add_argument("--weight", type=float, help="of the term; default 10 for capsules, 3000 for spheres")
    parser.add_argument("--hold-joints", type=float, default=1.0)
    parser.add_argument("--hold-angles", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep the worst poses here, which take longest to find")
    parser.add_argument("--pictures", type=Path, help="before and after of the first eight")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = bodyfit.load_model()
    betas = torch.from_numpy(np.random.default_rng(args.seed).standard_normal((args.draws, 10)).clip(-2, 2)).float()
    pose = wide_poses(args.draws, args.seed, args.spread).float()
    if args.cache and args.cache.is_file():
        worst = torch.from_numpy(np.load(args.cache))
        before = depths(model(betas=betas[worst], body_pose=pose[worst]).vertices, model.faces, args.workers)
    else:
        depth = depths(model(betas=betas, body_pose=pose).vertices, model.faces, args.workers)
        worst = depth.amax(1).argsort(descending=True)[: args.worst]
        before = depth[worst]
        if args.cache:
            np.save(args.cache, worst.numpy())
    betas, pose = betas[worst], pose[worst]
    start = torch.cat([torch.zeros(len(worst), 6), pose], 1)
    joints = Points(model, [{name: 1.0} for name in model.skeleton.names])
    held = model(betas=betas, body_pose=pose)
    term = TERMS[args.term](model)
    weight = args.weight or {"capsules": 10.0, "spheres": 3000.0}[args.term]
    problem = Separation(term, joints, betas, start, held.joints, weight, args.hold_joints, args.hold_angles)
    begin = time.perf_counter()
    x, summary = minimize(problem, start, LMConfig(max_iterations=60))
    seconds = time.perf_counter() - begin
    moved = model(betas=betas, body_pose=x[:, 6:], global_orient=x[:, 3:6], transl=x[:, :3])
    after = depths(moved.vertices, model.faces, args.workers)
    away = 100 * (moved.joints - held.joints).norm(dim=2).numpy()
    chain = involved(model, before)
    free = np.where(chain, np.nan, away)
    deepest, left = before.amax(1), after.amax(1)
    print(
        json.dumps(
            {
                "term": args.term,
                "people": len(worst),
                "deepest_before_cm": round(100 * float(deepest.mean()), 2),
                "deepest_after_cm": round(100 * float(left.mean()), 2),
                "removed_of_deepest": round(1 - float(left.sum() / deepest.sum()), 3),
                "removed_of_all_vertices": round(1 - float(after.sum() / before.sum()), 3),
                "people_below_1cm": int((left < 0.01).sum()),
                "involved_moved_cm": round(float(away[chain].mean()), 2),
                "uninvolved_joints": int((~chain).sum()),
                "uninvolved_moved_cm": round(float(np.nanmean(free)), 2),
                "uninvolved_moved_p95_cm": round(float(np.nanquantile(free, 0.95)), 2),
                "iterations": round(float(summary.iterations.double().mean()), 1),
                "ms_per_person": round(1e3 * seconds / len(worst), 2),
            }
        )
    )
    np.savez("/work/out/interpen/last.npz", before=before, after=after, x=x, worst=worst, betas=betas, pose=pose)


if __name__ == "__main__":
    main()
