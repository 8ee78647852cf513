"""What the benchmarks share: a record of what was measured, by what command, when and on what machine.

    parser = argparse.ArgumentParser(...)
    harness.add_json_option(parser)
    ...
    harness.write_json(args, {"pa_mpjpe_mm": 40.1})

A record is {"benchmark", "command", "date", "machine", "results"} and names no host, user or folder.
`scripts/figures/numbers.py` makes docs/numbers.md of the records in docs/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from bodyfit.runtime.atomic import write_atomically

__all__ = ["add_json_option", "command", "machine", "record", "write_json"]

PACKAGES = ("bodyfit", "torch", "numpy", "numba", "onnxruntime", "opencv-contrib-python")
_SCRIPTS = Path(__file__).resolve().parents[2]
_LOAD_AT_START = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
"""Programs that ran in the minute before this one started."""


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add the option by which every benchmark writes its numbers."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, machine and date here, too")


def write_json(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write a record of this run to the file of `--json`, if one was given; whole or not at all."""
    if args.json is None:
        return
    text = json.dumps(record(results), indent=1, allow_nan=False) + "\n"
    with write_atomically(args.json) as path:
        path.write_text(text, encoding="utf-8")


def record(results: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run: results, and what is needed to judge and repeat them."""
    return {
        "benchmark": _module().removeprefix("scripts.bench."),
        "command": command(sys.argv[1:]),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "results": _plain(results),
    }


def command(words: Sequence[str]) -> str:
    """The command line of this benchmark with these arguments: files by their names alone, without `--json`."""
    kept, skip = [], False
    for word in words:
        skip, left_out = word == "--json", skip or word == "--json" or word.startswith("--json=")
        if not left_out:
            kept.append(Path(word).name if "/" in word or os.sep in word else word)
    return shlex.join(["python", "-m", _module(), *kept])


def machine() -> dict[str, Any]:
    """The processor, its cores and threads, the load before the run, GPU and versions."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load_at_start": _LOAD_AT_START,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _module() -> str:
    """The benchmark that runs, such as `scripts.bench.synthetic`."""
    path = Path(sys.argv[0]).resolve()
    inside = path.relative_to(_SCRIPTS) if path.is_relative_to(_SCRIPTS) else Path("bench", path.name)
    return ".".join(("scripts", *inside.with_suffix("").parts))


def _processor() -> str:
    """The processor's name as the system gives it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _plain(value: Any) -> Any:
    """Values that JSON can hold: numbers to six digits, those that are not finite as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # an array, tensor or number of theirs
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
