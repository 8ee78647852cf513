"""`bodyfit doctor`: whether the installation works."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.errors import BodyfitError

__all__ = ["doctor"]

_MOST_PX = 5.0
"""The priors pull an exact body off its keypoints by less, at a focal length of 1000 px."""
_PARTS = ("hand_region", "hand_landmarks", "face_landmarks", "iris_landmarks")
_ACCURATE = ("pose_landmarks_heavy", "pose_mask_heavy", "movenet_thunder")
_NETWORKS = ("pose_landmarks", "pose_mask", *_PARTS, *_ACCURATE)
"""What the detector runs only where there is somebody."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    ok: bool
    words: str
    """What works, or what is wrong and what to do."""


CompileOption = Annotated[
    bool, typer.Option("--compile", help="first compile all loops that the commands need, and keep them")
]


def doctor(
    compile_all: CompileOption = False, as_json: common.JsonOption = False, verbose: common.VerboseOption = False
) -> int:
    """Check that the installation works: packages and files are there, networks run, a body can be fitted, compiled
    loops can be kept, and which GPU there is. It takes some seconds; the first run also compiles.

    With --compile all loops are compiled now, for this kind of processor, which takes a minute or two: for the image
    of a container, a machine that is to answer at once, or before the installation becomes read-only.

    Examples:
        bodyfit doctor
        bodyfit doctor --compile
        bodyfit doctor --json

    Exit code: 0 all is well, 1 something does not work.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, check in (({"compile": _compile} if compile_all else {}) | _CHECKS).items():
        start = time.perf_counter()
        finding = check()
        seconds = time.perf_counter() - start
        found[name] = {"ok": finding.ok, "words": finding.words, "seconds": seconds}
        if not as_json:
            verdict = "ok" if finding.ok else "FAILS"
            common.say(f"{name:<9} {verdict:<6} {finding.words}" + (f" ({seconds:.1f} s)" if verbose else ""))
    well = all(finding["ok"] for finding in found.values())
    if as_json:
        common.say_json({"ok": well, "checks": found})
    return common.OK if well else common.SOME_FAILED


def _compile() -> Finding:
    from bodyfit.cli.support.compile_loops import WORK, compile_loops
    from bodyfit.runtime.compiled import compiled_so_far
    from bodyfit.runtime.loop_cache import ANOTHER_PLACE, loop_cache

    cache = loop_cache(_body_is_fitted)
    if cache is None or not cache.can_be_written:
        return Finding(False, f"compiled loops cannot be kept, so that none was compiled; {ANOTHER_PLACE}")
    with common.progress_bar() as progress:
        for done, name in enumerate(compile_loops()):
            progress(f"compiling for {name}", done, len(WORK))
    loops, seconds = compiled_so_far()
    if not loops:
        return Finding(True, "all loops were compiled before")
    return Finding(True, f"{loops} loops compiled in {seconds:.0f} s; they are kept {_place(cache.cache_path)}")


def _place(cache_path: str) -> str:
    """Where compiled loops are, in words."""
    import bodyfit

    package = Path(bodyfit.__file__).parent
    return f"in the package, {package}" if Path(cache_path).is_relative_to(package) else f"in {Path(cache_path).parent}"


def _packages() -> Finding:
    from bodyfit.cli.info import installation

    missing = installation()["missing"]
    if missing:
        return Finding(False, f"missing: {', '.join(missing)}; install bodyfit again with pip")
    return Finding(True, "packages and shipped files are there")


def _networks() -> Finding:
    import numpy as np

    from bodyfit.detect import load_detector
    from bodyfit.detect.networks.session import shipped_network
    from bodyfit.images.frame import Frame

    try:
        for name in _NETWORKS:
            network = shipped_network(name)
            network.run(None, network.blank_inputs())
        load_detector("movenet").detect([Frame(np.zeros((96, 96, 3), np.uint8))])
    except (BodyfitError, ImportError) as fault:
        return Finding(False, f"the detector does not run: {fault}")
    return Finding(True, f"{len(_NETWORKS) + 2} networks of the detector load and run")


def _body_is_fitted(device: str) -> Finding:
    import torch

    from bodyfit.body.model import load_model
    from bodyfit.fit.fitter import fit_keypoints
    from bodyfit.geometry.camera import Camera

    model = load_model(device=device)
    person = model.params(global_orient=torch.tensor([[torch.pi, 0.0, 0.0]]), transl=torch.tensor([[0.0, 0.2, 4.0]]))
    points = model.keypoints(person, "coco17")
    xy = Camera.make(1, (1000, 1000), focal_px=1000.0, device=device).project(points)
    xyc = torch.cat([xy, torch.ones_like(xy[..., :1])], 2)
    result = fit_keypoints(xyc, layout="coco17", image_size=(1000, 1000), focal_px=1000.0, model=model)
    off = float(result.reprojection_error_px[0])
    if not result.status[0].ok or not off < _MOST_PX:
        return Finding(False, f"a body that is known is fitted {off:.1f} px off ({result.status[0].value}) on {device}")
    return Finding(True, f"a body that is known is fitted to {off:.1f} px on {device}, by {result.backend}")


def _fit() -> Finding:
    return _body_is_fitted("cpu")


def _cache() -> Finding:
    from bodyfit.runtime.compiled import compiled_so_far
    from bodyfit.runtime.loop_cache import ANOTHER_PLACE, loop_cache

    cache, (loops, seconds) = loop_cache(_body_is_fitted), compiled_so_far()
    if cache is None or not cache.can_be_written:
        if cache is not None and not loops:
            return Finding(True, "compiled loops are there; more cannot be kept, as no folder can be written")
        return Finding(False, f"compiled loops cannot be kept; {ANOTHER_PLACE}")
    anew = f"; compiled {loops} now, in {seconds:.1f} s" if loops else ""
    return Finding(True, f"compiled loops can be kept{anew}")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(True, "none that torch can use; fits run on the CPU")
    finding = _body_is_fitted("cuda")
    return Finding(finding.ok, f"{torch.cuda.get_device_name(0)}: {finding.words}")


_CHECKS: dict[str, Callable[[], Finding]] = {
    "packages": _packages,
    "detector": _networks,
    "fit": _fit,
    "cache": _cache,
    "gpu": _gpu,
}
"""What is checked, in this order."""
