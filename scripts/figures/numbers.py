"""Make docs/numbers.md, and the five numbers of the README, of the records that the benchmarks wrote.

    python -m scripts.figures.numbers docs/benchmarks/*.json -o docs/numbers.md --readme README.md

A number that the README and the page show stands in a record or it stands nowhere. `stated.json` holds those that
cannot be measured anew in minutes, each with the day it was measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyfit.runtime.atomic import write_atomically

START, END = "<!-- numbers: made by scripts/figures/numbers.py -->", "<!-- /numbers -->"
"""Between these lines the README has its numbers."""
Records = dict[str, dict[str, Any]]
"""Records by the names of their files."""


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, in which record, and how its results read."""

    record: str
    what: str
    words: Callable[[dict[str, Any]], str]
    page: str = ""


def _accuracy(r: dict[str, Any]) -> str:
    lift, plain = r["means"]["default"], r["means"]["no lift"]
    return ", ".join(f"{layout} {lift[layout][0]:.0f} / {plain[layout][0]:.0f} mm" for layout in lift)


def _synthetic(r: dict[str, Any]) -> str:
    return f"{r['pa_mpjpe_mm']:.0f} mm PA-MPJPE, {r['reprojection_px']:.1f} px"


def _synthetic_time(r: dict[str, Any]) -> str:
    return f"{min(r['cpu_ms_per_person']):.1f} ms of CPU a person"


def _multiview(r: dict[str, Any]) -> str:
    fit, lift = r["2D and lift"], r["the lift alone"]
    return (
        f"{fit['pa_mpjpe_mm']:.0f} mm PA-MPJPE and {fit['mpjpe_mm']:.0f} mm MPJPE in {fit['views']} views; the "
        f"detector's own 3D {lift['pa_mpjpe_mm']:.0f} and {lift['mpjpe_mm']:.0f}"
    )


def _multiview_video(r: dict[str, Any]) -> str:
    clip, single = r["at once: 2D and lift"], r["frame by frame: 2D and lift"]
    return (
        f"{clip['pa_mpjpe_mm']:.0f} mm PA-MPJPE and {clip['mpjpe_mm']:.0f} mm MPJPE at {clip['views']} moments, as "
        f"single photographs {single['pa_mpjpe_mm']:.0f} and {single['mpjpe_mm']:.0f}"
    )


def _estimate(r: dict[str, Any]) -> str:
    own, both = r["rows"]["MediaPipe-like: estimate"], r["rows"]["MediaPipe-like: both"]
    alone = r["rows"]["MediaPipe-like: 2D"]
    return (
        f"PA-MPJPE {both['pa_mpjpe_mm']:.0f} mm, the estimates alone {own['pa_mpjpe_mm']:.0f}, the keypoints alone "
        f"{alone['pa_mpjpe_mm']:.0f}"
    )


def _clips(r: dict[str, Any]) -> str:
    once, each = r["mediapipe33"]["at once"], r["mediapipe33"]["frame by frame"]
    return (
        f"PA-MPJPE {once['pa_mm']:.1f} instead of {each['pa_mm']:.1f} mm, acceleration error "
        f"{each['acceleration'] / once['acceleration']:.1f} times lower"
    )


def _span(values: list[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"


def _body(r: dict[str, Any]) -> str:
    forward, both = ([b[way]["ratio"]["smplx"] for b in r["batches"]] for way in ("forward", "forward_backward"))
    return f"{_span(forward)} times as fast forward, {_span(both)} forward and backward"


def _body_memory(r: dict[str, Any]) -> str:
    return ", ".join(
        f"{way.replace('_', ' and ')} {mb['bodyfit']:.0f} MB (smplx {mb['smplx']:.0f})"
        for way, mb in r["memory_mb"].items()
    )


def _raster(r: dict[str, Any]) -> str:
    times = [case["forward"] for case in r["cases"].values()]
    ratios = [t["PyTorch3D"]["cpu"] / t["ours"]["cpu"] for t in times]
    return (
        " / ".join(f"{ratio:,.0f}" for ratio in ratios)
        + " times as fast (CPU time); the same faces in "
        + " / ".join(f"{case['pix_to_face equal']:.3%}" for case in r["cases"].values())
    )


def _pictures(r: dict[str, Any]) -> str:
    calls = r["calls"]
    return f"{calls['1080p, 1 person: overlay']['cpu_ms']:.0f} ms of CPU, without shadows " + (
        f"{calls['1080p, 1 person: overlay without shadows']['cpu_ms']:.0f}"
    )


def _batch(r: dict[str, Any]) -> str:
    return f"{r['cpu_ms_a_picture']:.0f} ms of CPU a picture, all processes together"


def _video(r: dict[str, Any]) -> str:
    stages = {name: stage["cpu_s"] for name, stage in r["stages"].items()}
    parts = ", ".join(f"{name} {s:.1f}" for name, s in stages.items())
    return f"{sum(stages.values()):.0f} s of CPU ({parts}); memory at most {r['peak_mb'] / 1000:.1f} GB"


def _uncertainty(r: dict[str, Any]) -> str:
    return (
        f"{r['ratios']} ratios of the error to the stated deviation from {r['least']:.2f} to {r['most']:.2f}, "
        f"{r['share_within_0.5_to_2']:.1%} of them within 0.5 to 2"
    )


def _overlap(r: dict[str, Any]) -> str:
    return (
        f"{r['removed_of_all_vertices']:.0%} of the depth removed, {r['people_below_1cm']} of {r['people']} people "
        f"left less than 1 cm deep"
    )


def _pose_shapes(r: dict[str, Any]) -> str:
    plain, shaped = (r["clips"]["|volume change|, ml"][k] for k in (0, 1))
    return f"mean change of volume {shaped:.0f} ml instead of {plain:.0f}"


def _population(r: dict[str, Any]) -> str:
    (men, men_kg), (women, women_kg) = (
        (r[gender]["bodies"][name][0] for name in ("height", "mass")) for gender in ("male", "female")
    )
    return f"men {men:.2f} m, {men_kg:.0f} kg; women {women:.2f} m, {women_kg:.0f} kg"


def _avatars(r: dict[str, Any]) -> str:
    means = r["means"]
    return (
        " / ".join(f"{means[name]['psnr_db']:.1f}" for name in ("pose", "camera", "both"))
        + f" dB PSNR in the box of the mask, {means['seconds']:.1f} s of CPU"
    )


def _radiance(r: dict[str, Any]) -> str:
    exact = r["exact"]
    return (
        " / ".join(f"{exact[name]['psnr_db']:.1f}" for name in ("pose", "camera", "both"))
        + f" dB PSNR in the box of the mask, {exact['seconds']:.0f} s of CPU"
    )


def _surface(r: dict[str, Any]) -> str:
    parts = [r["means"][part] for part in ("exact", "masks", "fits")]
    return (
        " / ".join(
            f"{one['network']['chamfer_mm']:.1f} mm instead of {one['naked']['chamfer_mm']:.1f}" for one in parts
        )
        + f", {r['means']['seconds']:.2f} s of CPU"
    )


def _surface_bounds(r: dict[str, Any]) -> str:
    names = "naked", "network", "best moves", "voxels 64"
    return "; ".join(
        f"{kind} " + " / ".join(f"{r['means'][kind][name]['chamfer_mm']:.1f}" for name in names) + " mm"
        for kind in ("skirt", "long hair")
    )


def _wrong(r: dict[str, Any]) -> str:
    exact, wrong = r["exact"]["camera"]["psnr_db"], r["wrong"]
    before, after = wrong["as they are"]["psnr_db"], wrong["refined"]["psnr_db"]
    first, last = wrong["rounds"][0]["joints_mm"], wrong["rounds"][-1]["joints_mm"]
    return (
        f"{before:.1f} -> {after:.1f} dB (exact bodies {exact:.1f}): {100 * (after - before) / (exact - before):.0f} % "
        f"of the loss; joints {first:.0f} -> {last:.0f} mm; {wrong['seconds']:.0f} s of CPU"
    )


def _networks(r: dict[str, Any]) -> str:
    return ", ".join(
        f"{row['field']} {row['both']['psnr_db']:.1f} dB in {row['budget_s']:.0f} s" for row in r["fields"]
    )


def _footage(r: dict[str, Any]) -> str:
    (of,) = (r[key] for key in ("moments", "camera") if key in r)
    field, baked = of["field"], of["baked"]
    return (
        f"field {field['psnr_db']:.1f} dB / {field['ssim']:.2f}, baked {baked['psnr_db']:.1f} / {baked['ssim']:.2f}, "
        f"of {of['pictures']} pictures; bodies and masks agree to {of['iou']:.2f}"
    )


def _turning(r: dict[str, Any]) -> str:
    means = r["means"]
    held, pose, fitted = (means[name]["psnr_db"] for name in ("held out", "camera", "camera, fitted pose"))
    return f"{held:.1f} dB on frames held out; a camera from the side {pose:.1f}, in the fitted pose {fitted:.1f}"


def _turn(r: dict[str, Any]) -> str:
    turns = list(r["refined"].values())
    return (
        " / ".join(f"{one['psnr_db']:.1f}" for one in turns)
        + " dB PSNR, SSIM "
        + " / ".join(f"{one['ssim']:.2f}" for one in turns)
        + " in the box of the mask"
    )


def _fields(r: dict[str, Any]) -> str:
    one, five, large = r["held"], r["five"], r["at_256"]
    return (
        f"{one['psnr_db']:.1f} dB, SSIM {one['ssim']:.3f} / five people at once {five['psnr_db']:.1f} dB / "
        f"at 256 px {large['psnr_db']:.1f} dB"
    )


ROWS = (
    Row(
        "synthetic",
        "Bodies of known pose and shape from motion clips: 24 joints, 4 px noise, 1000 px focal length",
        _synthetic,
    ),
    Row("synthetic", "The same, time: 256 people in one call, covariance included", _synthetic_time, "speed.md"),
    Row("synthetic-smplify", "The same with the paper's weights and schedule, `FitConfig.smplify()`", _synthetic),
    Row(
        "accuracy",
        "People of held-out clips as a made-up detector sees them, PA-MPJPE with its 3D lift / without",
        _accuracy,
        "how-it-works.md",
    ),
    Row(
        "multiview",
        "Photographs of a balancing man, one view at a time, against joints triangulated from four cameras",
        _multiview,
        "how-it-works.md",
    ),
    Row("multiview-accurate", "The same with `--detector movenet:accurate`", _multiview, "detectors.md"),
    Row(
        "multiview-video",
        "The footage of these four cameras as clips, each camera's by itself",
        _multiview_video,
        "sequence.md",
    ),
    Row("multiview-video-accurate", "The same with `--detector movenet:accurate`", _multiview_video, "sequence.md"),
    Row(
        "estimate",
        "Made-up estimates of another program, off by 45 mm, and keypoints of a made-up detector",
        _estimate,
        "estimates.md",
    ),
    Row("clips", "A track at once against frame by frame, 14 held-out motion clips", _clips, "sequence.md"),
    Row("uncertainty", "Whether joints are off by as much as the fit says", _uncertainty),
    Row("body", "The body model against smplx on the same file, batch 1 to 256", _body, "speed.md"),
    Row("body", "Memory that a call of 64 bodies adds at its peak", _body_memory, "speed.md"),
    Row(
        "render",
        "PyTorch3D's rasteriser on the CPU, the open body at 512x512: a face a pixel / eight, soft",
        _raster,
        "rasteriser.md",
    ),
    Row(
        "pictures",
        "Overlay of a person on a 1080p photograph: eight samples a pixel, soft shadows",
        _pictures,
        "pictures.md",
    ),
    Row("batch", "A folder of 640x480 pictures with one person each, detection included", _batch, "scale.md"),
    Row("video", "A clip of 230 frames (1768x994) with two people, detection and film included", _video, "video.md"),
    Row("interpenetration", "Bodies far deeper in themselves than people are: what the fit's term removes", _overlap),
    Row("population", "Random bodies, 500 of each gender: mean height and mass", _population, "body-models.md"),
    Row(
        "avatars",
        "Textured avatars of six drawn people in clothes, exact bodies, 96 pictures: new poses / new cameras / both",
        _avatars,
        "avatars.md",
    ),
    Row(
        "radiance",
        "A radiance field about a drawn person in clothes, exact bodies, 96 pictures: new poses / new cameras / both",
        _radiance,
        "radiance.md",
    ),
    Row("avatars-fits", "The same of films of people who turn before one camera, by own fits", _turning, "avatars.md"),
    Row("radiance-wrong", "A field of eight poses, bodies wrong by 3 degrees: refined together", _wrong, "radiance.md"),
    Row("radiance-networks", "Fields by the same processor time, new poses and cameras", _networks, "radiance.md"),
    Row("radiance-networks-120", "The same, twice the time", _networks, "radiance.md"),
    Row(
        "footage-moments", "A man before four cameras (Pose2Sim's demonstration): new moments", _footage, "radiance.md"
    ),
    Row("footage-camera", "The same: the fourth camera, of what the others saw", _footage, "radiance.md"),
    Row(
        "surface",
        "Clothed surfaces of drawn people in clothes never learned from, chamfer distance: exact bodies and masks / "
        "exact bodies, the detector's masks / own fits",
        _surface,
        "clothed-surfaces.md",
    ),
    Row(
        "surface-bounds",
        "Chamfer distance of the naked body / clothed surface / best moves of the body's mesh / true voxels, 64 a side",
        _surface_bounds,
        "clothed-surfaces.md",
    ),
    Row(
        "turn",
        "The person of one picture turned by 15 / 30 / 60 degrees, clothes never trained on, exact bodies",
        _turn,
        "new-views.md",
    ),
    Row("turn-prior", "The same in poses of the prior, arms farther from the body", _turn, "new-views.md"),
    Row(
        "fields",
        "Compositional feature fields of 200 people at 128 px: one person, unseen pose and camera",
        _fields,
        "fields.md",
    ),
    Row("pose_shapes", "Pose blend shapes against plain skinning, poses of clips", _pose_shapes, "pose-shapes.md"),
)
"""What the page shows, in this order."""

HEADLINES: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    (
        "synthetic",
        "bodies of known pose (the prior's own clips), 24 noisy joints",
        lambda r: f"{_synthetic(r)}, {_synthetic_time(r)}",
    ),
    ("multiview", "real photographs, one view at a time", _multiview),
    ("clips", "a clip at once, not frame by frame", _clips),
    ("body_layer", "the body model beside smplx, on an idle CPU", lambda r: r["number"].split(";")[0]),
    ("quality", "fits that are called good", lambda r: f"{r['number'].split(';')[0]} are wrong by more than 150 mm"),
)
"""The README's five: record, what, words."""


PAGE = """# Numbers

Made by `python -m scripts.figures.numbers` of the records in `docs/benchmarks/`, which the benchmarks write with
`--json`: do not edit. Errors of joints are means over people. CPU time is that of all threads together: on a shared
machine it says more than the clock, and still too much.

## Measured

| what | number | command | machine |
|---|---|---|---|
{measured}

Machines, by number:

{machines}

## Measured earlier

These take hours, or a machine that does nothing else, or pictures that do not ship. They stand as they were measured on
the day that is given, on two cores of an AMD EPYC.

| what | number | command | measured |
|---|---|---|---|
{stated}

CLIPS, `mocap` above, is a folder of motion in the AMASS layout: 82 clips of the CMU Graphics Lab Motion Capture
Database and of pybullet. `Demo_SinglePerson` is the demonstration in the package Pose2Sim. `scripts/bench/synthetic.py`
takes poses of the clips that trained the prior: it measures the optimiser, not generalisation. For
`scripts/bench/accuracy.py` and `scripts/bench/clips.py` the prior is trained anew, without the clips of their people.
"""


def read(paths: list[Path]) -> Records:
    """The records by name; the stated rows are records of their own."""
    records: Records = {}
    for path in sorted(paths):
        record = json.loads(path.read_text(encoding="utf-8"))
        if path.stem == "stated":
            records |= {row["name"]: row for row in record["rows"]}
        else:
            records[path.stem] = record
    return records


def page(records: Records) -> str:
    """The whole of docs/numbers.md."""
    measured = [
        f"| {_linked(row.what, row.page)} | {row.words(records[row.record]['results'])} | "
        f"`{records[row.record]['command']}` | {_machines(records).index(_machine(records[row.record])) + 1} |"
        for row in ROWS
        if row.record in records
    ]
    stated = [
        f"| {_linked(row['what'], row['page'])} | {row['number']} | `{row['command']}` | {row['date']} |"
        for row in records.values()
        if "number" in row
    ]
    machines = [f"{i + 1}. {text}" for i, text in enumerate(_machines(records))]
    parts = {"measured": measured, "machines": machines, "stated": stated}
    return PAGE.format(**{name: "\n".join(lines) for name, lines in parts.items()})


def headlines(records: Records) -> str:
    """The README's numbers, a row each."""
    rows = [f"| {what} | {words(records[name].get('results', records[name]))} |" for name, what, words in HEADLINES]
    return "\n".join(["| what | number |", "|---|---|", *rows])


def readme_with(text: str, records: Records) -> str:
    """The README's text with its numbers made anew."""
    before, rest = text.split(START + "\n")
    after = rest.split(END)[1]
    return f"{before}{START}\n{headlines(records)}\n{END}{after}"


def _linked(what: str, page: str) -> str:
    return f"{what} ([more]({page}))" if page else what


def _machine(record: dict[str, Any]) -> str:
    """A record's machine, day and load in words."""
    m = record["machine"]
    versions = ", ".join(f"{name} {m['packages'][name]}" for name in ("torch", "numpy", "numba", "onnxruntime"))
    threads = f"{m['threads']} thread{'s' * (m['threads'] > 1)}"
    load = m["load_at_start"]
    shared = "shared with other programs, " if load is None or load > 0.5 * m["cores"] else ""
    gpu = f", {m['gpu']}" if m["gpu"] else ""
    return (
        f"{record['date']}: {m['processor']}, {m['cores']} cores{gpu}, {shared}{threads}; {m['system']}, Python "
        f"{m['python']}, {versions}"
    )


def _machines(records: Records) -> list[str]:
    """Every machine and day, once."""
    return list(dict.fromkeys(_machine(records[row.record]) for row in ROWS if row.record in records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="what benchmarks wrote with --json")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the page")
    parser.add_argument("--readme", type=Path, help="put the five numbers in here")
    args = parser.parse_args()
    records = read(args.records)
    with write_atomically(args.out) as path:
        path.write_text(page(records), encoding="utf-8")
    if args.readme:
        text = readme_with(args.readme.read_text(encoding="utf-8"), records)
        with write_atomically(args.readme) as path:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
