"""The fit against other optimisers: the same objective from the same starts, in one run on one machine.

People are made as in synthetic.py. Against ours stand torch's L-BFGS with strong Wolfe line search a person
(30 rounds a stage until the relative change is under 1e-4), Adam with 100 + 100 steps for everybody at once, and
scipy.optimize.least_squares (trf) on residuals and analytic Jacobian a person. All end objectives are evaluated in
float64 by one function (residuals.py). Ours is timed between the others, so that a busy machine slows all.

    python -m scripts.bench.fit CLIPS                      # some ten minutes: L-BFGS on 24 people, the others on all
    python -m scripts.bench.fit CLIPS --lbfgs-people 256   # everybody with everything
    python -m scripts.bench.fit CLIPS --only trf64 --peers # fewer of them; other packages too (peers.py)
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

import bodyfit
from bodyfit.evaluate import pa_mpjpe
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.objective import Observations, StageObjective
from bodyfit.geometry.camera import Camera
from scripts.bench.optimisers.others import OTHERS
from scripts.bench.optimisers.residuals import Residuals
from scripts.bench.records import harness
from scripts.bench.synthetic import FOCAL_PX, SIZE, people


@dataclass(frozen=True)
class Case:
    """Everybody's observations and starts."""

    fitters: dict[torch.dtype, Fitter]
    """The objective's numbers in both precisions; the float32 one is what is timed."""
    xyc: Tensor
    """(B, K, 3) keypoints."""
    lift: Tensor | None
    """(B, K, 3) 3D keypoints in metres."""
    starts: Tensor
    """(B, H, D) the fitter's own, float32."""
    seen: Observations
    """What the objective sees, float32."""
    truth: Tensor
    """(B, J, 3) the true joints in metres."""
    mesh: Tensor
    """(B, V, 3) the true mesh in metres."""

    def of(self, dtype: torch.dtype, rows: Tensor) -> tuple[Fitter, Tensor, Observations]:
        """Fitter, starts and observations of some people in a precision."""
        seen = self.seen.select(rows)
        values = {f.name: getattr(seen, f.name) for f in fields(seen)}
        cast = {name: v.to(dtype) if isinstance(v, Tensor) else v for name, v in values.items()}
        return self.fitters[dtype], self.starts[rows].to(dtype), Observations(**cast)

    def ours(self, rows: Tensor) -> bodyfit.FitResult:
        """The fit as a user calls it."""
        lift = None if self.lift is None else self.lift[rows]
        return self.fitters[torch.float32](self.xyc[rows], image_size=SIZE, focal_px=FOCAL_PX, joints3d=lift)

    def objective(self, x: Tensor) -> Tensor:
        """(B,) the last stage's objective of the first B people in float64."""
        fitter, _, seen = self.of(torch.float64, torch.arange(len(x)))
        with torch.no_grad():
            return Residuals(fitter.terms, fitter.config.stages[-1], seen).cost(x.double())

    def error_mm(self, x: Tensor) -> Tensor:
        """(B,) PA-MPJPE of the first B people."""
        fitter = self.fitters[torch.float32]
        with torch.no_grad():
            params = fitter.model.params(**fitter.variables.params(x.float()))
            return torch.from_numpy(pa_mpjpe(fitter.model.joints(params), self.truth[: len(x)]).per_item)


def make_case(args: argparse.Namespace) -> Case:
    """People of known pose as the fitter sees them."""
    fitters = {
        dtype: Fitter(model=bodyfit.load_model(dtype=dtype), layout=args.layout)
        for dtype in (torch.float32, torch.float64)
    }
    fitter = fitters[torch.float32]
    _, truth, xyc = people(args.clips, args.people, fitter.model, args.layout, args.noise_px, args.seed)
    xyc = torch.as_tensor(xyc, dtype=torch.float32)
    lift = None
    if args.lift_noise_mm is not None:
        exact = fitter.model.keypoints(truth, args.layout)
        lift = exact + 1e-3 * args.lift_noise_mm * torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    camera = Camera.make(len(xyc), SIZE, focal_px=FOCAL_PX)
    present = (xyc[..., 2] >= fitter.config.min_confidence) & (fitter.observer.trust > 0)
    with torch.no_grad():
        known = replace(CheckedEvidence.of_one_camera(xyc, camera), lift_m=lift)
        starts, _, seen = fitter.starts(known, fitter.observer.observations(known, present))
    return Case(fitters, xyc, lift, starts, seen, truth.joints, truth.vertices)


def disagreement(case: Case) -> float:
    """Largest relative difference between |r|^2, |J^T r| and what the fit's own objective says, and between J and
    autograd's, at the starts and at random points about them.
    """
    fitter, x, seen = case.of(torch.float64, torch.arange(min(8, len(case.xyc))))
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for spread in (0.0, 0.05, 0.3):
        at = x[:, 0] + spread * torch.randn(x[:, 0].shape, generator=generator, dtype=x.dtype)
        for stage in fitter.config.stages:
            problem = Residuals(fitter.terms, stage, seen)
            with torch.no_grad():
                own = StageObjective(fitter.terms, stage, seen).normal(at)
                r, rows = problem(at, with_jacobian=True)
            gradient = (rows.mT @ r[..., None])[..., 0]
            free = at.clone().requires_grad_()
            (by_autograd,) = torch.autograd.grad(problem(free)[0].square().sum(), free)
            scale = own.gradient.abs().max()
            worst = max(
                worst,
                float((r.square().sum(1) / own.cost - 1).abs().max()),
                float((gradient - own.gradient).abs().max() / scale),
                float((0.5 * by_autograd - own.gradient).abs().max() / scale),
            )
    return worst


def timed(run: Callable[[], Tensor | bodyfit.FitResult]) -> tuple[Tensor | bodyfit.FitResult, float]:
    """What `run` returns and its wall time in seconds."""
    begin = time.perf_counter()
    result = run()
    return result, time.perf_counter() - begin


@dataclass
class Measured:
    """One optimiser's ends and times."""

    x: Tensor
    """(N, D) of the first N people."""
    seconds: list[float]
    """A person's time, of each person or of each batched run."""
    faster: list[float]
    """The same over that of ours in the batch, timed right before or after."""
    faster_alone: list[float]
    """The same over that of ours at batch 1 on the same person."""


def run_all(
    case: Case, names: list[str], samples: dict[str, int], tolerance: float
) -> tuple[dict[str, Measured], list[float]]:
    """Everybody's ends and times, and the times of ours at batch 1."""
    everybody, found = torch.arange(len(case.xyc)), {}
    case.ours(everybody)  # warm up
    ours: list[float] = []

    def ours_now() -> float:
        _, seconds = timed(lambda: case.ours(everybody))
        ours.append(seconds / len(everybody))
        return ours[-1]

    for name in (n for n in names if OTHERS[n][2]):
        run, dtype, _ = OTHERS[name]
        fitter, x, seen = case.of(dtype, everybody)
        before = ours_now()
        ends, seconds = timed(lambda: run(fitter.terms, fitter.config.stages, x, seen, tolerance))  # noqa: B023
        each = seconds / len(everybody)
        found[name] = Measured(ends, [each], [each / statistics.mean((before, ours_now()))], [])
    single = [n for n in names if not OTHERS[n][2]]
    found |= {name: Measured(torch.empty(0), [], [], []) for name in single}
    alone: list[float] = []
    batch = ours_now()
    for i in range(max(samples[name] for name in single) if single else min(16, len(everybody))):
        rows = torch.tensor([i])
        batch = ours_now() if i % 32 == 31 or (i < 32 and i % 8 == 7) else batch
        alone.append(timed(lambda: case.ours(rows))[1])  # noqa: B023
        for name in (n for n in single if i < samples[n]):
            run, dtype, _ = OTHERS[name]
            fitter, x, seen = case.of(dtype, rows)
            end, seconds = timed(lambda: run(fitter.terms, fitter.config.stages, x, seen, tolerance))  # noqa: B023
            m = found[name]
            m.x = torch.cat([m.x, end.double()])
            m.seconds.append(seconds)
            m.faster.append(seconds / batch)
            m.faster_alone.append(seconds / alone[-1])
    found["ours"] = Measured(case.fitters[torch.float32].variables.pack(case.ours(everybody).params), ours, [], [])
    return found, alone


def compare(case: Case, found: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """How the end objective of ours stands to each other's, and to the best of those who have fitted the person."""
    costs = {name: torch.nan_to_num(case.objective(m.x), nan=torch.inf) for name, m in found.items()}
    ours = costs.pop("ours")
    padded = [torch.nn.functional.pad(c, (0, len(ours) - len(c)), value=torch.inf) for c in costs.values()]
    costs["best of the others"] = torch.stack(padded).amin(0)
    report = {}
    for name, cost in costs.items():
        fitted = torch.isfinite(cost)
        ratio = ours[: len(cost)][fitted] / cost[fitted]
        report[name] = {
            "people": len(ratio),
            "median": float(ratio.median()),
            "p95": float(ratio.quantile(0.95)),
            "share_over_1.001": float((ratio > 1.001).double().mean()),
            "share_over_1.02": float((ratio > 1.02).double().mean()),
            "share_elsewhere": float(((ratio - 1).abs() > 0.02).double().mean()),
        }
    return report


def summary(case: Case, found: dict[str, Measured], alone: list[float]) -> dict[str, dict[str, float]]:
    """Times, failures and errors of each."""
    table = {}
    for name, m in found.items():
        cost, error = case.objective(m.x), case.error_mm(m.x)
        table[name] = {
            "people": len(m.x),
            "ms_a_person": 1e3 * statistics.median(m.seconds),
            "ours_faster": statistics.median(m.faster) if m.faster else float("nan"),
            "ours_faster_alone": statistics.median(m.faster_alone) if m.faster_alone else float("nan"),
            "not_finite": int((~torch.isfinite(cost)).sum()),
            "objective": float(cost.nanmedian()),
            "pa_mpjpe_mm": float(error.nanmean()),
        }
    table["ours"]["ms_alone"] = 1e3 * statistics.median(alone)
    return table


def show(table: dict[str, dict[str, float]], quality: dict[str, dict[str, float]], people: int) -> None:
    """Both tables as text."""
    print(f"{'':<20}{'people':>7}{'ms/person':>11}{'ours x':>9}{'at 1, x':>9}{'NaN':>5}{'objective':>11}{'PA mm':>7}")
    for name, row in table.items():
        print(
            f"{name:<20}{row['people']:>7.0f}{row['ms_a_person']:>11.2f}{row['ours_faster']:>9.1f}"
            f"{row['ours_faster_alone']:>9.2f}{row['not_finite']:>5.0f}{row['objective']:>11.2f}{row['pa_mpjpe_mm']:>7.1f}"
        )
    print(f"ours: {table['ours']['ms_alone']:.1f} ms a fit at batch 1, the rest at batch {people}\n")
    print(f"{'ours over':<20}{'people':>7}{'median':>9}{'p95':>9}{'>1.001':>9}{'>1.02':>8}{'2% apart':>10}")
    for name, row in quality.items():
        print(
            f"{name:<20}{row['people']:>7.0f}{row['median']:>9.5f}{row['p95']:>9.4f}{row['share_over_1.001']:>9.1%}"
            f"{row['share_over_1.02']:>8.1%}{row['share_elsewhere']:>10.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256, help="batch of ours and of Adam")
    parser.add_argument("--sample", type=int, default=256, help="people that the optimisers without a batch get")
    parser.add_argument(
        "--lbfgs-people", type=int, default=24, help="people that L-BFGS gets, which takes seconds each"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(OTHERS), default=["lbfgs64", "adam32", "adam32-mesh", "trf64"]
    )
    parser.add_argument("--layout", default="smpl24")
    parser.add_argument("--noise-px", type=float, default=4.0)
    parser.add_argument("--lift-noise-mm", type=float, help="also give the 3D keypoints with this noise")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of L-BFGS and trf, relative")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", action="store_true", help="also time other packages and plain SMPLify by autograd")
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    case = make_case(args)
    worst = disagreement(case)
    if worst > 1e-9:
        raise SystemExit(f"error: the residuals are not the fit's objective: {worst:.1e} apart")
    samples = {n: min(args.people, args.lbfgs_people if n.startswith("lbfgs") else args.sample) for n in args.only}
    found, alone = run_all(case, args.only, samples, args.tolerance)
    table, quality = summary(case, found, alone), compare(case, found)
    show(table, quality, args.people)
    report = {"optimisers": table, "ours_over": quality, "residuals_differ_by": worst}
    if args.peers:
        from scripts.bench.optimisers.peers import Seen, show_peers, time_peers

        def some(n: int) -> Seen:
            starts = case.starts[:n, 0, :6]
            return Seen(case.xyc[:n], starts, case.truth[:n], case.mesh[:n], args.layout, FOCAL_PX, SIZE[0] / 2)

        report["peers"] = time_peers(some)
        show_peers(report["peers"])
    harness.write_json(args, report)


if __name__ == "__main__":
    main()
