"""`bodyfit fit`: photographs in, bodies out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common, finding, interrupt
from bodyfit.cli.support.runs import failed, finish, folder_names, one_input, say_legs, say_poor
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import ImageError

if TYPE_CHECKING:
    from bodyfit.cli.support.fit_one import Worker
    from bodyfit.detect import Detector

__all__ = ["fit"]


def fit(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them (not searched inside).")],
    out: common.OutOption,
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
    masks: finding.MasksOption = None,
    learned_prior: finding.LearnedPriorOption = True,
    depth: finding.DepthOption = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            help="Bodies by another program (4D-Humans, CameraHMR, ...), to start at and stay near to: the file of the "
            "picture, or a folder of files named as the pictures.",
        ),
    ] = None,
    surface: Annotated[
        bool,
        typer.Option(
            "--surface", help="Write people's clothed surfaces, too; the fit is to masks as well (--silhouette)."
        ),
    ] = False,
    keep_poor: common.KeepPoorOption = True,
    device: common.DeviceOption = "cpu",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Fit a 3D body to every person in photographs.

    For each picture a folder of its name is written in OUT: overlay.png, insets.png (hands and face from near, of a
    model that has them), silhouettes.png (masks against bodies, with --silhouette), and for each person a view from the
    side, the mesh (obj, glb) and the parameters (npz). OUT/summary.json tells how each input went.

    The focal length is read from EXIF; without that it is guessed, and distances with it. Give it if you know it.

    Examples:
        bodyfit fit photo.jpg -o out
        bodyfit fit holiday/ portrait.png -o out --fov 70
        bodyfit fit photo.jpg -o out --focal-mm 24 --sensor-mm 36 --json
        bodyfit fit photos/ --keypoints openpose_out/ -o out
        bodyfit fit photo.jpg --model open-x -o out
        bodyfit fit photo.jpg --silhouette -o out
        bodyfit fit photo.jpg --surface -o out
        bodyfit fit photo.jpg --init hmr2_out/photo.pkl -o out
        bodyfit fit color/ --depth depth/ --focal-px 525 -o out

    With --surface a network moves each body's skin out to clothes and hair, guessing what the picture does not show:
    personN_clothed.glb has the picture's colours and a skeleton, personN_clothed.obj the mesh with the same colours.
    The line of a person says who has none, and where one agrees badly with the mask.

    With --model open-h fingers are fitted, with open-x jaw, eyes and expression too, where the hands and the face are
    large enough to be seen.

    A body that explains its keypoints badly, or is improbable, is poor: it is drawn hatched, and the line of its person
    says why. --drop-poor leaves such bodies out.

    Exit code: 0 every input gave a body, 1 some did not, or only poor ones (or people in a keypoint file could not be
    read), 2 wrong use (also where no input names a picture).
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
        silhouette=finding.with_surface(silhouette, surface, model),
        masks=masks,
    )
    entries: list[dict[str, Any]] = []
    pictures = _pictures(inputs, entries)
    if not pictures:
        return common.WRONG_USE
    files = None if keypoints is None else finding.matched(keypoints, keypoint_layout, pictures)
    mask_files = by.mask_files()
    common.output_folder(out)
    start = time.perf_counter()
    with common.progress_bar() as advance:
        advance("loading", 0, len(pictures))
        with interrupt.at_once():
            from bodyfit.app.estimates import EstimateFiles
            from bodyfit.app.pipeline import Lens
            from bodyfit.cli.support.fit_one import Worker  # torch and the networks: seconds
            from bodyfit.fit.config import FitConfig

        body = common.chosen_model(model, gender, device)
        worker = Worker(
            out=out,
            detector=by.load_detector(body) if files is None else files,
            model=body,
            parts=by.parts(body),
            detector_name=by.name,
            masks=mask_files,
            lens=Lens(**lens),
            keep_poor=keep_poor,
            config=None if learned_prior else FitConfig.without_conditional_prior(),
            depth=depth,
            surface=surface,
            estimates=None if init is None else EstimateFiles(init, body),
        )
        interrupted = _each(worker, pictures, entries, advance, quiet=as_json, verbose=verbose)
    summary = worker.summary(entries, seconds=time.perf_counter() - start, interrupted=interrupted)
    return finish(summary, out, as_json)


def _each(
    worker: Worker,
    pictures: Sequence[Path],
    entries: list[dict[str, Any]],
    advance: Callable[[str, int, int | None], None],
    *,
    quiet: bool,
    verbose: bool,
) -> bool:
    """Fit one picture after the other; returns whether Ctrl-C stopped it. What is done stays done."""
    try:
        for done, (picture, folder) in enumerate(zip(pictures, folder_names(pictures), strict=True)):
            advance(picture.name, done, len(pictures))
            entries.append(one_input(worker, picture, folder, verbose))
            _tell_faults(entries[-1], worker.detector, picture)
            if entries[-1].get("note"):
                common.error(entries[-1]["note"], label="note")
            for person in entries[-1]["people"]:
                for note in filter(None, (person.get("mask_note"), person.get("surface_note"))):
                    common.error(f"{picture}: person {person['person']}: {note}", label="note")
            if not quiet:
                _tell(entries[-1], worker.out / folder)
            advance(picture.name, done + 1, len(pictures))
    except KeyboardInterrupt:
        common.error(f"stopped by Ctrl-C; results up to here are in {worker.out}", label="bodyfit")
        return True
    return False


def _pictures(inputs: Sequence[Path], entries: list[dict[str, Any]]) -> list[Path]:
    """The pictures that the inputs name, each once; an input without any is told and entered as failed, and so are, in
    a line, a folder's files that are left out."""
    from bodyfit.images.files import find_images, list_folder

    def pictures_of(path: Path) -> list[Path]:
        try:
            found = find_images([path])
            if path.is_dir() and (rest := list_folder(path).describe_unused(found)) is not None:
                common.error(rest, label="note")
            return found
        except ImageError as fault:
            common.error(str(fault))
            entries.append(failed(path, "error", in_options(str(fault))))
            return []

    return find_images(picture for path in inputs for picture in pictures_of(path))


def _tell_faults(entry: dict[str, Any], detector: Detector, picture: Path) -> None:
    """Tell and enter the people of a keypoint file who could not be read beside others who could."""
    from bodyfit.io import KeypointFiles

    faults = detector.faults(picture) if isinstance(detector, KeypointFiles) else ()
    if faults and entry["people"]:
        entry["faults"] = [in_options(fault) for fault in faults]
        for fault in entry["faults"]:
            common.error(fault)


def _tell(entry: dict[str, Any], folder: Path) -> None:
    """One line on standard output for an input that gave a body."""
    good = [person for person in entry["people"] if person["files"]]
    if not good:
        return
    errors = ", ".join(
        f"{p['reprojection_error_px']:.1f} px ({p['reprojection_error_percent']:.1f} % of height)"
        if p["reprojection_error_px"] is not None and p["reprojection_error_percent"] is not None
        else "unknown"
        for p in good
    )
    people = "1 person" if len(good) == 1 else f"{len(good)} people"
    seconds = sum(entry["seconds"].values())
    common.say(f"{entry['input']}: {people}, off by {errors}, {seconds:.1f} s -> {folder}")
    say_poor(entry)
    say_legs(entry)
