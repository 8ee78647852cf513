"""`bodyfit batch`: folders of pictures, resumable."""

from __future__ import annotations

import contextlib
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common, finding, interrupt
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import OptionError, OutputError

if TYPE_CHECKING:
    from bodyfit.io import KeypointFiles

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
    focal_px: finding.FocalPxOption = None,
    focal_mm: finding.FocalMmOption = None,
    sensor_mm: finding.SensorMmOption = None,
    fov_deg: finding.FovOption = None,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    detector: finding.DetectorOption = finding.DETECTOR,
    tta: finding.TtaOption = False,
    hands: finding.HandsOption = None,
    face: finding.FaceOption = None,
    keypoints: finding.KeypointsOption = None,
    keypoint_layout: finding.KeypointLayoutOption = None,
    silhouette: finding.SilhouetteOption = None,
    learned_prior: finding.LearnedPriorOption = True,
    masks: finding.MasksOption = None,
    depth: finding.DepthOption = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            help="Bodies by another program (4D-Humans, CameraHMR, ...), to start at and stay near to: a folder of "
            "files named as the pictures, or the file of the only one.",
        ),
    ] = None,
    keep_poor: common.KeepPoorOption = True,
    device: common.DeviceOption = "cpu",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Fit everyone in folders of pictures, any number; a run that was stopped goes on with --resume.

    OUT gets a file of everyone's parameters for each picture (photos/a.jpg.npz, for load_result, bodyfit view and
    bodyfit render) and a line in status.jsonl: done, poor (no body is to be relied on), no_person or failed, and why. A
    line stands for a result that is there: after a crash, or kill -9, --resume does what has no line.

    Examples:
        bodyfit batch photos/ -o out --workers 2
        bodyfit batch photos/ -o out --resume
        bodyfit batch s3://bucket/photos -o out --engine ray --address auto
        bodyfit batch photos/ -o out --keypoints openpose_out/

    Exit code: 0 all are done or show nobody, 1 some failed or have only poor bodies (or people in a keypoint file could
    not be read) or nothing more could be written, 2 wrong use.
    """
    depth = finding.depth_folder(depth)
    lens = finding.checked_lens(focal_px, focal_mm, sensor_mm, fov_deg)
    by = finding.Finding(
        detector=detector,
        tta=tta,
        keypoints=keypoints,
        layout=keypoint_layout,
        hands=hands,
        face=face,
        silhouette=silhouette,
        masks=masks,
    )
    by.check_name()
    with interrupt.at_once():
        from bodyfit.app.batch.run import run_batch
        from bodyfit.app.pipeline import Lens
        from bodyfit.fit.config import FitConfig

    chosen, aside = None, contextlib.nullcontext()
    if engine is EngineName.RAY:
        from bodyfit.app.batch.ray_engine import ray_engine

        aside = contextlib.redirect_stdout(sys.stderr)  # where Ray prints what its nodes say
        chosen = ray_engine(workers, address=address, timeout_s=timeout_s)
    elif address is not None:
        raise OptionError("--address is of --engine ray; give that too")
    common.output_folder(out)
    files = None if keypoints is None else _files(keypoints, keypoint_layout)
    body = common.chosen_model(model, gender, device)
    faulty = 0
    with aside, common.progress_bar() as advance:

        def tell(finished: int, items: int, entry: dict[str, Any] | None) -> None:
            nonlocal faulty
            advance("" if entry is None else Path(entry["item"]).name, finished, items)
            if entry is not None and (verbose or entry["status"] in ("failed", "poor")):
                poor = "; ".join(f"person {number}: {reason}" for number, reason in entry.get("poor", {}).items())
                why = f": {in_options(entry['why'])}" if "why" in entry else f": {poor}" if poor else ""
                print(f"{entry['item']}: {entry['status']}{why}", file=sys.stderr, flush=True)
            for fault in entry.get("faults", ()) if entry is not None else ():
                faulty += 1
                common.error(fault)

        try:
            summary = run_batch(
                paths,
                out,
                workers=workers,
                resume=resume,
                retry_failed=retry_failed,
                model=body,
                detector=detector,
                tta=tta,
                hands=hands,
                face=face,
                keypoints=files,
                silhouette=by.use_masks,
                masks=by.mask_files(),
                depth=depth,
                estimates=init,
                lens=Lens(**lens),
                config=None if learned_prior else FitConfig.without_conditional_prior(),
                timeout_s=timeout_s,
                keep_poor=keep_poor,
                engine=chosen,
                progress=tell,
            )
        except OutputError as fault:  # in the middle of the work, not wrong use
            common.error(str(fault))
            return common.SOME_FAILED
    if summary.left_out:
        more = summary.left_out - len(summary.left_out_names)
        what = "1 file is" if summary.left_out == 1 else f"{summary.left_out} files are"
        names = ", ".join(summary.left_out_names) + (f" and {more} more" if more else "")
        common.error(f"{what} left out: {names}", label="note")
    if as_json:
        common.say_json(vars(summary))
    else:
        common.say(_words(summary, out))
    if summary.interrupted:
        common.error(f"stopped by Ctrl-C; go on with --resume, what is finished is in {out}", label="bodyfit")
        return common.INTERRUPTED
    return common.SOME_FAILED if summary.failed or summary.poor or faulty else common.OK


def _files(path: Path, layout: str | None) -> KeypointFiles:
    from bodyfit.io import load_keypoints

    files = load_keypoints(path, layout=layout)
    for note in files.notes:
        common.error(note, label="note")
    return files


def _words(summary: Any, out: Path) -> str:
    new = summary.done + summary.no_person + summary.failed - summary.skipped
    rate = new / summary.seconds if summary.seconds > 0 else 0.0
    pictures = "1 picture" if summary.items == 1 else f"{summary.items} pictures"
    before = f", {summary.skipped} of them before" if summary.skipped else ""
    poor = f" ({summary.poor} with poor bodies only)" if summary.poor else ""
    return (
        f"{pictures}: {summary.done} done{poor}, {summary.no_person} without a person, {summary.failed} failed"
        f"{before}; {summary.seconds:.1f} s, {rate:.1f} a second -> {out}"
    )
