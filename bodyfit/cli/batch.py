"""`bodyfit batch`: folders of pictures, resumable."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bodyfit.cli import common
from bodyfit.cli.runs import check_focal
from bodyfit.errors import OptionError, OutputError

__all__ = ["batch"]


class EngineName(str, Enum):
    """Where people are looked for."""

    LOCAL = "local"
    RAY = "ray"


def batch(
    paths: Annotated[list[str], typer.Argument(help="Pictures, folders (searched to the bottom), addresses.")],
    out: common.OutOption,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that look for people; default: one a core.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Go on, and take what failed once more, too.")
    ] = False,
    engine: Annotated[
        EngineName, typer.Option("--engine", help='"ray" looks and fits on Ray, here or on a cluster.')
    ] = EngineName.LOCAL,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Ray cluster, as ray.init takes it; default: here.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that one picture may take.")] = 120.0,
    focal_px: Annotated[float | None, typer.Option("--focal-px", help="Focal length in pixels, of all.")] = None,
    fov_deg: Annotated[
        float | None, typer.Option("--fov", help="Field of view along the longer side, in degrees.")
    ] = None,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    detector: common.DetectorOption = common.DETECTOR,
    device: common.DeviceOption = "cpu",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Fit everyone in folders of pictures, any number; a run that was stopped goes on with --resume.

    OUT gets a file of everyone's parameters for each picture (photos/a.jpg.npz, for load_result, bodyfit view and
    bodyfit render) and a line in status.jsonl: done, no_person or failed, and why. A line stands for a result that is
    there: after a crash, or kill -9, --resume does what has no line.

    Examples:
        bodyfit batch photos/ -o out --workers 2
        bodyfit batch photos/ -o out --resume
        bodyfit batch s3://bucket/photos -o out --engine ray --address auto

    Exit code: 0 all are done or show nobody, 1 some failed or nothing more could be written, 2 wrong use.
    """
    check_focal(focal_px, None, None, fov_deg)
    from bodyfit.batch.run import run_batch
    from bodyfit.pipeline import Lens

    chosen, aside = None, contextlib.nullcontext()
    if engine is EngineName.RAY:
        from bodyfit.batch.ray_engine import ray_engine

        aside = contextlib.redirect_stdout(sys.stderr)  # where Ray prints what its nodes say
        chosen = ray_engine(workers, address=address, timeout_s=timeout_s)
    elif address is not None:
        raise OptionError("--address is of --engine ray; give that too")
    body = common.chosen_model(model, gender, device)
    with aside, common.progress_bar() as advance:

        def tell(finished: int, items: int, entry: dict[str, Any] | None) -> None:
            advance("" if entry is None else Path(entry["item"]).name, finished, items)
            if entry is not None and (verbose or entry["status"] == "failed"):
                why = f": {entry['why']}" if "why" in entry else ""
                print(f"{entry['item']}: {entry['status']}{why}", file=sys.stderr, flush=True)

        try:
            summary = run_batch(
                paths,
                out,
                workers=workers,
                resume=resume,
                retry_failed=retry_failed,
                model=body,
                detector=detector,
                lens=Lens(focal_px=focal_px, fov_deg=fov_deg),
                timeout_s=timeout_s,
                engine=chosen,
                progress=tell,
            )
        except OutputError as fault:  # in the middle of the work, not wrong use
            common.error(str(fault))
            return common.SOME_FAILED
    if as_json:
        common.say(json.dumps(common.plain(vars(summary)), indent=2))
    else:
        common.say(_words(summary, out))
    if summary.interrupted:
        common.error(f"stopped by Ctrl-C; go on with --resume, what is finished is in {out}", label="bodyfit")
        return common.INTERRUPTED
    return common.SOME_FAILED if summary.failed else common.OK


def _words(summary: Any, out: Path) -> str:
    new = summary.done + summary.no_person + summary.failed - summary.skipped
    rate = new / summary.seconds if summary.seconds > 0 else 0.0
    before = f", {summary.skipped} of them before" if summary.skipped else ""
    return (
        f"{summary.items} pictures: {summary.done} done, {summary.no_person} without a person, {summary.failed} failed"
        f"{before}; {summary.seconds:.1f} s, {rate:.1f} a second -> {out}"
    )
