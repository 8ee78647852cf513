"""`bodyfit eval`: how far bodies are from the truth."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bodyfit.cli.support import common
from bodyfit.cli.support.benchmarks import BENCHMARKS, Benchmark
from bodyfit.cli.support.finding import DETECTOR
from bodyfit.cli.support.views import compare_folders
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.evaluate import Report

__all__ = ["evaluate"]

_WIDTH = 110


def evaluate(
    pred: Annotated[Path, typer.Argument(help="Fit, parameters or joints (.npz, .npy).")],
    truth: Annotated[
        Path, typer.Argument(help="The same, annotations of 3DPW, EMDB, AGORA or H36M, or scenes' folder.")
    ],
    views: Annotated[Path | None, typer.Argument(help="Of views, the folder of the true pictures.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="mpjpe, pa_mpjpe, pve, pa_pve, accel, accel_frame, jitter, pck50, pck150 or auc; may be repeated.",
        ),
    ] = None,
    root: Annotated[
        str, typer.Option("--root", help="What lies at the origin: pelvis, mid_hip, a joint's name, or none.")
    ] = "pelvis",
    joints: Annotated[
        str, typer.Option("--joints", help="smpl24, emdb24, smpl22, lsp14, 3dpw14, h36m14 or h36m17.")
    ] = "smpl24",
    regressor: Annotated[
        Path | None,
        typer.Option("--regressor", help="J_regressor_h36m.npy (17, V), for lsp14, 3dpw14, h36m14 and h36m17."),
    ] = None,
    pred_model: Annotated[
        str | None, typer.Option("--pred-model", help="Body that PRED's parameters pose; a fit knows its own.")
    ] = None,
    truth_model: Annotated[
        str | None, typer.Option("--truth-model", help="Body that TRUTH's parameters pose; a folder holds all genders.")
    ] = None,
    person: Annotated[int, typer.Option("--person", min=0, help="Which person or motion of TRUTH's file.")] = 0,
    fps: Annotated[
        float | None, typer.Option("--fps", min=1e-3, help="Frames a second, where TRUTH does not say.")
    ] = None,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Of a data set, fit each N-th frame, or register each N-th scan.")
    ] = 1,
    detector: Annotated[
        str, typer.Option("--detector", help="Of a data set, what finds people; file: the keypoints that it has.")
    ] = DETECTOR,
    motions: Annotated[bool, typer.Option("--motions", help="Of a data set, fit clips and not single frames.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Of a data set, where bodies are stored, to go on from there.")
    ] = None,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Measure bodies against the truth, item by item in the files' order.

    By default mpjpe and pa_mpjpe over SMPL's 24 joints, about the pelvis. Items whose prediction is missing (NaN) are
    counted as failed and left out of means, but wrong for pck and auc; items without truth are left out.

    Examples:
        bodyfit eval fits.npz truth.npz --truth-model open
        bodyfit eval joints.npy downtown_car_00.pkl --person 1 --metric accel
        bodyfit eval fits.npz P1_14_data.pkl --truth-model models/smpl --json
        bodyfit eval freihand FreiHAND_pub_v2_eval/ --pred-model open-x
        bodyfit eval fits.npz data/ --joints smpl22
        bodyfit eval ehf EHF/ --pred-model models/smplx
        bodyfit eval cape cape_release/ --pred-model models/smpl --every 20
        bodyfit eval 3dpw 3DPW/ --truth-model models/smpl -o eval/
        bodyfit eval emdb2 EMDB/ --truth-model models/smpl --motions -o eval/
        bodyfit eval views drawn/ truth/

    The words 3dpw, emdb, emdb2, rich, agora, h36m and mpi-inf-3dhp in place of PRED find and fit the people of that
    data set, in the folder TRUTH, and print its measures with its protocol; a run that was stopped goes on with -o.
    The words freihand and ehf in place of PRED fit that data set's pictures, in the folder TRUTH, and score the fits
    as its paper does. The words cape and 4d-dress register bodies to that data set's scans, and compare their vertices
    and joints with the SMPL bodies under the clothes, posed by --truth-model. The word views in place of PRED compares
    drawn pictures, in the folder TRUTH, with the true ones of the same names in a third: PSNR, SSIM, and a distance of
    features of the landmark network, less for what looks more alike.

    Exit code: 0 all was measured, 1 a metric had nothing to count, 2 the files cannot be used or compared.
    """
    if str(pred) == "views" and not pred.exists():
        return compare_folders(truth, views, as_json)
    if views is not None:
        raise OptionError(f"{views} is one argument too many: only views have three")
    if str(pred) in ("freihand", "ehf") and not pred.exists():
        return _pictures(str(pred), truth, pred_model, as_json)
    if str(pred) in ("cape", "4d-dress") and not pred.exists():
        return _scans(str(pred), truth, (pred_model or "open", truth_model or pred_model), every, as_json)
    if str(pred) in BENCHMARKS and not pred.exists():
        source = None if detector == "file" else detector
        return Benchmark(str(pred), truth, pred_model or "open", truth_model, source, motions, every, regressor).run(
            out, as_json
        )
    sides = _Sides(pred, pred_model, truth, truth_model, person, regressor)
    report = _measured(sides, metric or ["mpjpe", "pa_mpjpe"], None if root == "none" else root, joints, fps)
    if as_json:
        common.say_json(_facts(report, pred, truth))
    else:
        for line in _lines(report):
            common.say(line)
    return common.OK if all(score.counted for score in report.scores) else common.SOME_FAILED


def _pictures(dataset: str, folder: Path, model: str | None, as_json: bool) -> int:
    """Fit the pictures of FreiHAND or EHF and say how far off they are."""
    from bodyfit.body.model import load_model
    from bodyfit.evaluate.part_fits import evaluate_ehf, evaluate_freihand

    measure = evaluate_freihand if dataset == "freihand" else evaluate_ehf
    try:
        scores = measure(folder, load_model(model or "open-x"))
    except OptionError as error:
        raise OptionError(f"{error} (--pred-model)") from None
    _say_scores(dataset, folder, model or "open-x", scores, as_json)
    total = scores.get("hands", scores.get("people", 0))
    return common.OK if scores["failed"] < total else common.SOME_FAILED


def _scans(dataset: str, folder: Path, models: tuple[str, str | None], every: int, as_json: bool) -> int:
    """Register bodies to the scans of CAPE or 4D-Dress and say how far off they are."""
    from bodyfit.body.model import load_model
    from bodyfit.evaluate.scan_fits import evaluate_scans

    pred, truth = models
    if truth is None:
        raise OptionError(f"the bodies of {dataset} are SMPL's; give its files: --truth-model models/smpl")
    tell = partial(common.error, label="left out")
    scores = evaluate_scans(dataset, folder, load_model(pred), truth=truth, every=every, tell=tell)
    if math.isnan(scores.v2v_mm) and not math.isnan(scores.mpjpe_mm):
        common.error(f"{pred} has not SMPL's vertices, so only joints are compared", label="note")
    _say_scores(dataset, folder, pred, asdict(scores), as_json)
    return common.SOME_FAILED if math.isnan(scores.mpjpe_mm) else common.OK


def _say_scores(dataset: str, folder: Path, model: str, scores: Mapping[str, float | int | str], as_json: bool) -> None:
    if as_json:
        common.say_json({"dataset": dataset, "folder": folder, "model": model, "scores": scores})
        return
    for name, value in scores.items():
        common.say(f"{name:18} {value:.2f}" if isinstance(value, float) else f"{name:18} {value}")


class _Sides(NamedTuple):
    """Where the bodies are, and what reads them."""

    pred: Path
    pred_model: str | None
    truth: Path
    truth_model: str | None
    person: int
    regressor: Path | None


def _measured(sides: _Sides, which: Sequence[str], root: str | None, joints: str, fps: float | None) -> Report:
    from bodyfit.evaluate import METRICS, Wanted, compare, joint_set, load_regressor, load_subject

    if unknown := [name for name in which if name not in METRICS]:
        raise OptionError(f"--metric must be one of {', '.join(METRICS)}, got {', '.join(unknown)}")
    chosen = joint_set(joints)
    chosen.root(root)  # an impossible root is told before the slow part
    rows = None if sides.regressor is None else load_regressor(sides.regressor)
    wanted = Wanted(chosen, vertices=bool({"pve", "pa_pve"} & set(which)), regressor=rows)
    return compare(
        load_subject(sides.pred, wanted, model=sides.pred_model),
        load_subject(sides.truth, wanted, model=sides.truth_model, person=sides.person),
        joints=chosen,
        root=root,
        which=which,
        fps=fps,
    )


def _facts(report: Report, pred: Path, truth: Path) -> dict[str, Any]:
    return {
        "pred": {"file": pred, "points": report.pred},
        "truth": {"file": truth, "points": report.truth},
        "items": report.items,
        "joints": report.joints,
        "root": report.root or "none",
        "frames_per_second": report.fps,
        "scores": [
            {
                "metric": score.metric,
                "value": score.mean,
                "unit": score.unit,
                "counted": score.counted,
                "failed": int(score.failed.sum()),
                "without_truth": int(score.untold.sum()),
            }
            for score in report.scores
        ],
    }


def _lines(report: Report) -> list[str]:
    """What was compared, and a table of the scores."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    table.add_column("unit")
    for name in ("value", "counted", "failed", "without truth"):
        table.add_column(name, justify="right")
    for score in report.scores:
        value = f"{score.mean:.2f}" if score.counted else "none"
        counts = (score.counted, int(score.failed.sum()), int(score.untold.sum()))
        table.add_row(score.metric, score.unit, value, *map(str, counts))
    page = io.StringIO()
    Console(file=page, width=_WIDTH).print(table)
    rate = "" if report.fps is None else f", {report.fps:g} frames a second"
    return [
        f"prediction  {report.pred}",
        f"truth       {report.truth}",
        f"joints {report.joints}, root {report.root or 'none'}, {report.items} items{rate}",
        *(line.rstrip() for line in page.getvalue().splitlines() if line.strip()),
    ]
