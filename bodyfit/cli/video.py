"""`bodyfit video`: clips in, bodies in motion out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common, finding, interrupt
from bodyfit.cli.support.clip_files import ClipFiles
from bodyfit.cli.support.runs import failed, finish, folder_names, one_input, say_poor
from bodyfit.errors import OptionError, VideoError

if TYPE_CHECKING:
    from bodyfit.cli.support.video_one import ClipWorker

__all__ = ["video"]


def video(
    clips: Annotated[
        list[Path],
        typer.Argument(
            help="Clips: mp4, mov, mkv, webm, avi and others, animated gif, webp and png; folders of the frames of one "
            "clip (with --fps), or folders of clips."
        ),
    ],
    out: common.OutOption,
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, max=1000.0, help="Frames a second of folders of frames; clips know their own."),
    ] = None,
    start_s: Annotated[float | None, typer.Option("--start", help="Seconds of the clip to begin at.")] = None,
    end_s: Annotated[float | None, typer.Option("--end", help="Seconds of the clip to end before.")] = None,
    stride: Annotated[int, typer.Option("--stride", min=1, help="Take every so manieth frame.")] = 1,
    max_gap_s: Annotated[
        float, typer.Option("--max-gap", min=0.0, help="Who is unseen for longer, in seconds, is a new person after.")
    ] = 2.0,
    film: Annotated[bool, typer.Option("--film/--no-film", help="Draw overlay.mp4, or not.")] = True,
    focal_px: finding.FocalPxOption = None,
    focal_mm: finding.FocalMmOption = None,
    sensor_mm: finding.SensorMmOption = None,
    fov_deg: finding.FovOption = None,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    detector: finding.DetectorOption = finding.DETECTOR,
    tta: Annotated[bool, typer.Option("--tta", hidden=True)] = False,
    keypoints: finding.KeypointsOption = None,
    keypoint_layout: finding.KeypointLayoutOption = None,
    silhouette: finding.SilhouetteOption = None,
    learned_prior: finding.LearnedPriorOption = True,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of masks of frames, from 0: CLIP_000123.png or 000123.png."),
    ] = None,
    init: Annotated[
        list[Path] | None,
        typer.Option(
            "--init",
            help="Bodies by another program (WHAM, GVHMR, TRAM, 4D-Humans, NLF ...), to start at and stay near to: "
            "files of the clip (once for each), or a folder of files named as the frames or as the clips.",
        ),
    ] = None,
    hands: finding.HandsOption = None,
    face: finding.FaceOption = None,
    first_frame: Annotated[
        int | None,
        typer.Option("--first-frame", min=0, help="Their number of a clip's first frame; 0, of MMPose's demos 1."),
    ] = None,
    keep_poor: common.KeepPoorOption = True,
    device: common.DeviceOption = "cpu",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Fit a 3D body to every person in clips of a standing camera, one shape and a smooth motion each.

    For each clip a folder of its name is written in OUT: for each person the motion as personN.npz (AMASS's keys),
    personN.glb (an animation) and personN.bvh, and overlay.mp4, the bodies over the clip beside a view from the side.
    OUT/summary.json tells who was seen when, which frames were filled in, and how well the bodies fit. All files of a
    clip share one clock: who enters at 0.6 s starts at 0.6 s.

    The focal length is guessed, and distances with it. Give it if you know it.

    Examples:
        bodyfit video clip.mp4 -o out
        bodyfit video clip.mp4 -o out --start 12 --end 20 --fov 65
        bodyfit video *.mov -o out --no-film --json
        bodyfit video frames/ --fps 30 -o out
        bodyfit video clip.mp4 --keypoints openpose_out/ -o out

    With --model open-h fingers are fitted, with open-x jaw, eyes and expression too, where the hands and the face are
    large enough to be seen: steady while they are, and at rest half a second after they were last visible.

    Frames whose body explains its keypoints badly, or is improbable, are poor; so is a person most of whose frames are.
    The film draws them hatched, and the line of a poor person says why. --drop-poor leaves such people out.

    Exit code: 0 every clip gave a body, 1 some did not, or only poor ones (or people in a keypoint file could not be
    read), 2 wrong use.
    """
    lens = finding.checked_lens(focal_px, focal_mm, sensor_mm, fov_deg)
    by = finding.Finding(
        detector=detector,
        keypoints=keypoints,
        layout=keypoint_layout,
        hands=hands,
        face=face,
        silhouette=silhouette,
        masks=masks,
    )
    if tta:
        raise OptionError(
            "--tta is for pictures: in a clip everyone is looked at in every frame, and the motion averages over them"
        )
    if first_frame is not None and keypoints is None:
        raise OptionError("--first-frame is of the files of --keypoints; give those too")
    if not 0 <= (start_s or 0.0) < (float("inf") if end_s is None else end_s):
        raise OptionError(f"--start and --end must be 0 <= start < end, got {start_s} and {end_s}")
    entries: list[dict[str, Any]] = []
    clips = _named_clips(clips, entries, fps)
    if not clips:
        return common.WRONG_USE
    _check_estimates(init or [], clips)
    files = None if keypoints is None else ClipFiles(keypoints, keypoint_layout, first_frame, clips)
    files_of_masks = by.mask_files()
    common.output_folder(out)
    start = time.perf_counter()
    with common.progress_bar() as tell:
        tell("loading", 0, None)
        with interrupt.at_once():
            from bodyfit.app.pipeline import Lens
            from bodyfit.cli.support.video_one import ClipWorker  # torch and the networks: seconds
            from bodyfit.fit.config import FitConfig
            from bodyfit.tracker import TrackerConfig

        body = common.chosen_model(model, gender, device)
        parts = by.parts(body)
        worker = ClipWorker(
            out=out,
            model=body,
            parts=parts,
            detector_or_files=by.load_detector(body) if files is None else files,
            detector_name=by.name,
            lens=Lens(**lens),
            config=None if learned_prior else FitConfig.without_conditional_prior(),
            part={"fps": fps, "start_s": start_s, "end_s": end_s, "stride": stride},
            masks=files_of_masks,
            estimates=tuple(init or ()),
            several=len(clips) > 1,
            fps_of_folders=any(clip.is_dir() for clip in clips),
            tracker=TrackerConfig(max_gap_s=max_gap_s),
            film=film,
            keep_poor=keep_poor,
            progress=tell,
        )
        interrupted = _each(worker, clips, entries, quiet=as_json, verbose=verbose)
    summary = worker.summary(entries, seconds=time.perf_counter() - start, interrupted=interrupted)
    return finish(summary, out, as_json)


def _check_estimates(init: Sequence[Path], clips: Sequence[Path]) -> None:
    """Raise `OptionError` where a file of estimates does not exist, or files of one clip are given for several."""
    if missing := [path for path in init if not path.exists()]:
        raise OptionError(f"{missing[0]}: no such file or folder of estimates")
    if len(clips) > 1 and init and not (len(init) == 1 and init[0].is_dir()):
        raise OptionError("--init of several clips must be one folder, of files or folders named as the clips")


def _named_clips(inputs: Sequence[Path], entries: list[dict[str, Any]], fps: float | None) -> list[Path]:
    """The clips that inputs name: a folder of frames is one, a folder of clips stands for these; a folder that is
    neither is told and entered as failed. Raises `OptionError` for a folder of frames without --fps."""
    from bodyfit.io.clips.frame_folder import clips_in_folder

    clips: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            clips.append(path)
            continue
        try:
            inside = clips_in_folder(path)
        except VideoError as fault:
            common.error(str(fault))
            entries.append(failed(path, "error", str(fault)))
            continue
        if inside is None and fps is None:
            raise OptionError(f"{path} is a folder of pictures; say how many are shown a second: --fps 30")
        clips += [path] if inside is None else inside.clips
        if inside is not None and (note := inside.describe_unused(inside.clips)) is not None:
            common.error(note, label="note")
    return clips


def _each(worker: ClipWorker, clips: list[Path], entries: list[dict[str, Any]], *, quiet: bool, verbose: bool) -> bool:
    """One clip after the other; returns whether Ctrl-C stopped it. What is done stays done."""
    try:
        for clip, folder in zip(clips, folder_names(clips), strict=True):
            entries.append(one_input(worker, clip, folder, verbose))
            _tell_damage(entries[-1], clip)
            for fault in entries[-1].get("faults", ()):
                common.error(fault)
            if not quiet:
                _tell(entries[-1], worker.out / folder)
    except KeyboardInterrupt:
        common.error(f"stopped by Ctrl-C; results up to here are in {worker.out}", label="bodyfit")
        return True
    return False


def _tell_damage(entry: dict[str, Any], clip: Path) -> None:
    """Lines on standard error for a clip that could not be read whole, or as it stands."""
    for note in entry.get("notes", ()):
        common.error(note, label="note")
    if entry.get("damaged_frames") or entry.get("cut_short"):
        end = ", and the file ends in the middle of its data" if entry["cut_short"] else ""
        common.error(f"{clip}: {entry['damaged_frames']} damaged frames were left out{end}", label="note")


def _tell(entry: dict[str, Any], folder: Path) -> None:
    """Lines on standard output for a clip that gave a body."""
    written = [person for person in entry["people"] if person["files"]]
    if not written:
        return
    n, seconds = len(written), sum(entry["seconds"].values())
    people = "1 person" if n == 1 else f"{n} people"
    frames = "1 frame" if entry["frames"] == 1 else f"{entry['frames']} frames"
    common.say(f"{entry['input']}: {people} in {frames}, {seconds:.1f} s -> {folder}")
    for person in written:
        filled = person["frames"] - person["frames_seen"]
        gaps = f", {filled} of them filled in" if filled else ""
        error = person["reprojection_error_px"]
        off = "" if error is None else f", off by {error:.1f} px"
        resting = person["frames_legs_at_rest"]
        legs = f", legs not visible in {resting} and at rest" if resting else ""
        span = f"frames {person['first_frame']} to {person['last_frame']}"
        common.say(f"  person {person['person']}: {span}{gaps}{off}{legs}")
    say_poor(entry)
