"""Times and memory of the body layer beside smplx and its other peers, on the same file.

    python -m scripts.bench.body [--model open|open-h|open-x|FILE] [--dense] [--json FILE]

In every round each program has a turn, one after the other, so that a busy machine delays all alike; the table holds
the medians of the ratios within rounds. A turn is one call, or as many as fill 20 ms, of which the median counts, for
the threads of the program before may still be spinning. A program that used up its share of the time sits out later
rounds. Forward is without gradients; backward is that of a weighted sum of the vertices to every parameter. The bound
is the greater of two times, at the rates measured here: to read the model and write the mesh once, and to do the
multiplications. First calls, which load and compile, are timed apart, in fresh processes. Programs that are not
installed are left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodyfit.body.assets import load_assets
from bodyfit.body.model import BodyModel
from bodyfit.io import save_model
from scripts.bench.records import harness

Call = Callable[[], torch.Tensor]
OURS = "bodyfit"
PEERS = ("smplx", "body-models", "smplfitter", "smplfitter-numba")


@dataclass
class Bodies:
    """A batch of parameters and the weights of the vertices' sum."""

    params: dict[str, torch.Tensor]
    weights: torch.Tensor

    @classmethod
    def random(cls, model: BodyModel, batch: int) -> Bodies:
        generator = torch.Generator().manual_seed(0)
        params = {
            name: (0.3 * torch.randn(batch, value.shape[1], generator=generator)).requires_grad_()
            for name, value in model.params().items()
            if value is not None
        }
        return cls(params, torch.randn(batch, *model.v_template.shape, generator=generator))


def prepare(model_name: str, dense: bool, folder: Path) -> tuple[BodyModel, Path]:
    """Our model, and the same one as a file of smplx's layout."""
    assets = load_assets(model_name)
    if dense:  # as in the published files, where every vertex answers a little to every joint
        shape = (len(assets.v_template), 3, 9 * (len(assets.parents) - 1))
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        assets = replace(assets, posedirs=0.002 * noise)
    with contextlib.redirect_stdout(io.StringIO()):
        path = save_model(assets, folder, layout="smplx")
    return BodyModel(assets, flat_hand_mean=True), path


def pose_of(params: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([params["global_orient"], params["body_pose"]], 1).unflatten(1, (-1, 3))


def contestant(
    name: str, model: BodyModel, path: Path, batch: int
) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """A function from parameters to vertices. Raises `ImportError` where the program, or its reader of this layout, is
    not there.
    """
    kind = model.kind.name
    if name == OURS:
        return lambda p: model(**p).vertices
    if name == "smplx":
        import smplx

        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = smplx.create(
                str(path), kind, batch_size=batch, use_pca=False, flat_hand_mean=True, num_betas=model.num_betas
            )
        return lambda p: layer(**p).vertices
    if kind != "smpl":
        raise ImportError(f"{name} is compared on SMPL files only")
    if name == "body-models":
        from body_models.smpl.torch import SMPL

        body = SMPL(model_path=path)
        return lambda p: body.forward_vertices(
            p["body_pose"].unflatten(1, (-1, 3)),
            pelvis_rotation=p["global_orient"],
            shape=p["betas"],
            global_translation=p["transl"],
        )
    with tempfile.TemporaryDirectory() as root:  # it wants the published names, and a template of children
        Path(root, "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl").symlink_to(path.resolve())
        np.save(Path(root, "kid_template.npy"), np.zeros((len(model.v_template), 3)))
        if name == "smplfitter-numba":
            import smplfitter.nb

            compiled = smplfitter.nb.BodyModel("smpl", "neutral", root)
            return lambda p: torch.from_numpy(
                compiled(pose_of(p).flatten(1).numpy(), p["betas"].numpy(), p["transl"].numpy())["vertices"]
            )
        import smplfitter.pt

        fitter = smplfitter.pt.BodyModel("smpl", "neutral", root)
        return lambda p: fitter(pose_of(p).flatten(1), p["betas"], p["transl"])["vertices"]


def forward(run: Callable[[dict[str, torch.Tensor]], torch.Tensor], bodies: Bodies) -> Call:
    plain = {k: v.detach() for k, v in bodies.params.items()}

    def call() -> torch.Tensor:
        with torch.no_grad():
            return run(plain)

    return call


def backward(run: Callable[[dict[str, torch.Tensor]], torch.Tensor], bodies: Bodies) -> Call:
    def call() -> torch.Tensor:
        return torch.autograd.grad(run(bodies.params), list(bodies.params.values()), bodies.weights)[0]

    return call


clock = time.perf_counter
"""What turns are timed by; `--cpu-time` exchanges it."""


def turn(call: Call, enough: float = 0.02) -> float:
    """Seconds of a call: the median of as many as fill `enough` seconds."""
    times = []
    while sum(times) < enough:
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times)


def interleaved(calls: dict[str, Call], seconds: float, most: int = 60) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, NaN where it sat out; every call has an equal share of the time.

    The first round warms up, but for calls so slow that it is the only one they have the time for.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    while any(spent[name] + spent[name] / max(len(times[name]), 1) <= seconds / len(calls) for name in calls):
        for name, call in calls.items():
            if times[name] and spent[name] * (1 + 1 / len(times[name])) > seconds / len(calls):
                continue
            start = time.perf_counter()
            times[name].append(turn(call))
            spent[name] += time.perf_counter() - start
        if len(next(iter(times.values()))) > most:
            break
    rounds = max(map(len, times.values()))
    full = {name: np.array(t + [np.nan] * (rounds - len(t))) for name, t in times.items()}
    for t in full.values():
        t[0] = np.nan if np.isfinite(t[1:]).any() else t[0]
    return full


def ratio(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Median of the ratios within rounds; of the medians where no round has both."""
    both = np.isfinite(theirs) & np.isfinite(ours)
    return float(np.median(theirs[both] / ours[both]) if both.any() else np.nanmedian(theirs) / np.nanmedian(ours))


def compare(model: BodyModel, path: Path, batch: int, seconds: float) -> dict[str, Any]:
    """One batch size: milliseconds of all, ratios to ours, and how far their vertices are from ours."""
    bodies = Bodies.random(model, batch)
    runs, absent = {}, {}
    for name in (OURS, *PEERS):
        try:
            runs[name] = contestant(name, model, path, batch)
        except ImportError as reason:  # noqa: PERF203
            absent[name] = str(reason)
    result: dict[str, Any] = {"batch": batch, "not_installed": absent, "away_m": {}, "rounds": {}}
    forwards = {name: forward(run, bodies) for name, run in runs.items()}
    ours = forwards[OURS]()
    for name, call in forwards.items():
        result["away_m"][name] = float((call() - ours).abs().max())
    differentiable = {name: run for name, run in runs.items() if name != "smplfitter-numba"}
    both = {name: backward(run, bodies) for name, run in differentiable.items()}
    both[OURS]()  # compiled now; first calls are measured by themselves
    for what, calls, share in (("forward", forwards, 0.4), ("forward_backward", both, 0.5)):
        times = interleaved(calls, share * seconds)
        result[what] = {
            "ms": {name: 1e3 * float(np.nanmedian(t)) for name, t in times.items()},
            "ratio": {name: ratio(t, times[OURS]) for name, t in times.items() if name != OURS},
        }
        result["rounds"][what] = {name: int(np.isfinite(t).sum()) for name, t in times.items()}
    params = model.params(**{k: v.detach() for k, v in bodies.params.items()})
    parts = {"all": forwards[OURS], "joints": lambda: model.joints(params)}
    parts["keypoints"] = lambda: model.keypoints(params, "coco17")
    with torch.no_grad():
        times = interleaved(parts, 0.1 * seconds)
    result["parts"] = {name: ratio(times["all"], times[name]) for name in ("joints", "keypoints")}
    return result


def machine() -> tuple[float, float]:
    """Bytes moved and multiplications done in a second by torch with its threads; best of several."""
    a, b = torch.ones(64 << 20), torch.ones(64 << 20)
    m = torch.randn(1536, 1536)

    def best(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(12):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    return 2 * a.numel() * 4 / best(lambda: b.copy_(a)), len(m) ** 3 / best(lambda: m @ m)


def bound(model: BodyModel, batch: int, rates: tuple[float, float]) -> float:
    """Seconds below which no forward pass can be: memory read and written once, or the multiplications."""
    arrays = model.mesh_arrays
    tensors = (arrays.v_template, arrays.shapedirs, arrays.posedirs, arrays.block, arrays.block_joint)
    weights = (arrays.weight_value, arrays.weight_joint)
    size = sum(t.numel() * t.element_size() for t in (*tensors, *weights) if t is not None)
    products = arrays.shapedirs.numel() + 12 * arrays.weight_value.numel()
    products += sum(t.numel() for t in (arrays.posedirs, arrays.block) if t is not None)
    written = arrays.v_template.numel() * arrays.v_template.element_size() * batch
    return max((size + written) / rates[0], batch * products / rates[1])


def fresh(args: argparse.Namespace, *what: str, **environment: str) -> list[float]:
    """Numbers that a fresh process of this script prints; none where it fails."""
    command = [sys.executable, "-m", "scripts.bench.body", "--model", args.model, *(["--dense"] * args.dense), *what]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    return [float(word) for word in done.stdout.split()] if done.returncode == 0 else []


def memory(args: argparse.Namespace, name: str, mode: str) -> float | None:
    """Megabytes by which a call raises the resident set of a fresh process above what it was before."""
    return next(iter(fresh(args, "--peak", name, mode)), None)


def first_calls(args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of our first forward and first backward in a fresh process: without numba's cache, then with it."""
    with tempfile.TemporaryDirectory() as folder:
        return {when: fresh(args, "--first", NUMBA_CACHE_DIR=folder) for when in ("compiled", "from_cache")}


def first(model: BodyModel, path: Path) -> list[float]:
    """The same, in this process."""
    run, bodies, seconds = contestant(OURS, model, path, 1), Bodies.random(model, 1), []
    for how in (forward, backward):
        start = time.perf_counter()
        how(run, bodies)()
        seconds.append(time.perf_counter() - start)
    return seconds


def resident(field: str) -> float:
    """Megabytes: VmRSS now, or VmHWM, the most since the mark was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(field)


def peak(model: BodyModel, path: Path, name: str, mode: str, batch: int = 64) -> float:
    """The same, in this process, after a call with one body that loads and compiles what there is to."""
    how = forward if mode == "forward" else backward
    how(contestant(name, model, path, 1), Bodies.random(model, 1))()
    call = how(contestant(name, model, path, batch), Bodies.random(model, batch))
    gc.collect()
    with contextlib.suppress(AttributeError):  # what is free but not given back would hide what the call takes
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        call()
        return resident("VmHWM") - before
    except OSError:  # no such files: the most since the process began, too little if loading took more
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def on_gpu(model: BodyModel, path: Path, seconds: float, batch: int = 1024) -> dict[str, float] | None:
    """Ratios of smplx to the compiled plain operations, or nothing where there is no GPU."""
    if not torch.cuda.is_available():
        return None
    ours, bodies = model.to("cuda"), Bodies.random(model, batch)
    theirs = contestant("smplx", model, path, batch)
    layer = theirs.__closure__[0].cell_contents.to("cuda")  # pyright: ignore[reportOptionalSubscript]
    there = {k: v.detach().cuda().requires_grad_() for k, v in bodies.params.items()}
    bodies = Bodies(there, bodies.weights.cuda())
    compiled = torch.compile(lambda p: ours(**p).vertices)
    found = {}
    for what, how in (("forward", forward), ("forward_backward", backward)):
        calls = {OURS: how(compiled, bodies), "smplx": how(lambda p: layer(**p).vertices, bodies)}

        def waited(call: Call) -> Call:
            return lambda: (call(), torch.cuda.synchronize())[0]

        times = interleaved({name: waited(call) for name, call in calls.items()}, seconds)
        found[what] = ratio(times["smplx"], times[OURS])
    return found


def report(results: dict[str, Any]) -> None:
    """The tables, plain."""
    peers = [p for p in PEERS if any(p in r["forward"]["ratio"] for r in results["batches"])]
    print(f"{results['model']}: {results['vertices']} vertices, {results['threads']} threads, float32")
    print("how many times as long as bodyfit the others take (medians of ratios within rounds)")
    for what in ("forward", "forward_backward"):
        print(f"\n{what:>18} {'batch':>6} {'bodyfit ms':>11} " + " ".join(f"{p:>17}" for p in peers))
        for r in results["batches"]:
            row = " ".join(f"{r[what]['ratio'][p]:17.1f}" if p in r[what]["ratio"] else f"{'-':>17}" for p in peers)
            print(f"{'':>18} {r['batch']:6d} {r[what]['ms'][OURS]:11.2f} {row}")
    print(f"\nforward over the machine's bound ({results['GB_s']:.1f} GB/s, {results['GFMA_s']:.0f} G products/s), and")
    print("how many times cheaper than the mesh the joints and the 17 COCO keypoints alone are")
    print(f"{'batch':>6} {'bound ms':>9} {'over bound':>11} {'joints':>8} {'keypoints':>10}")
    for r in results["batches"]:
        over = r["forward"]["ms"][OURS] / r["bound_ms"]
        print(f"{r['batch']:6d} {r['bound_ms']:9.3f} {over:11.1f} {r['parts']['joints']:8.1f} ", end="")
        print(f"{r['parts']['keypoints']:10.1f}")
    for when, seconds in results["first_calls_s"].items():
        print(f"\nfirst calls, {when.replace('_', ' ')}: ", end="")
        print(", ".join(f"{what} {s:.1f} s" for what, s in zip(("forward", "backward"), seconds, strict=False)), end="")
    print("\n\nmemory that a call adds at its peak, batch 64, MB")
    for mode, found in results["memory_mb"].items():
        print(f"{mode:>18}: " + ", ".join(f"{k} {'?' if v is None else round(v)}" for k, v in found.items()))
    away = {p: max(r["away_m"].get(p, 0.0) for r in results["batches"]) for p in peers}
    print("\nvertices differ from bodyfit's by at most, m: " + ", ".join(f"{p} {v:.1e}" for p, v in away.items()))
    for name, reason in results["batches"][0]["not_installed"].items():
        print(f"{name}: not installed ({reason})")
    gpu = results["cuda"]
    if gpu is None:
        print("CUDA: no GPU here, not measured")
    else:
        print(f"CUDA, batch 1024, torch.compile: smplx takes {gpu['forward']:.1f} x forward, ", end="")
        print(f"{gpu['forward_backward']:.1f} x forward and backward")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="open", help="open, open-h, open-x or a file")
    parser.add_argument("--dense", action="store_true", help="random dense pose blend shapes, as published files have")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024])
    parser.add_argument("--seconds", type=float, default=20, help="for the rounds of a batch size; it may take more")
    parser.add_argument("--threads", type=int, help="torch's, for all programs")
    parser.add_argument("--cpu-time", action="store_true", help="time the processor: with 1 thread on a busy machine")
    parser.add_argument("--peers", type=Path, help="a folder with further packages to compare")
    harness.add_json_option(parser)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cpu_time:
        global clock
        clock = time.process_time
    if args.peers:
        sys.path.append(str(args.peers))
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model, path = prepare(args.model, args.dense, Path(folder))
        if args.peak:
            print(peak(model, path, *args.peak))
            return
        if args.first:
            print(*first(model, path))
            return
        rates = machine()
        results: dict[str, Any] = {
            "model": args.model + (" with dense pose blend shapes" if args.dense else ""),
            **{"vertices": len(model.v_template), "threads": torch.get_num_threads()},
            **{"GB_s": rates[0] / 1e9, "GFMA_s": rates[1] / 1e9, "batches": []},
        }
        for batch in args.batches:
            print(f"batch {batch} ...", file=sys.stderr, flush=True)
            found = compare(model, path, batch, args.seconds)
            results["batches"].append(found | {"bound_ms": 1e3 * bound(model, batch, rates)})
        results["memory_mb"] = {
            mode: {name: memory(args, name, mode) for name in (OURS, "smplx")}
            for mode in ("forward", "forward_backward")
        }
        results["first_calls_s"] = first_calls(args)
        results["cuda"] = on_gpu(model, path, args.seconds)
    report(results)
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
