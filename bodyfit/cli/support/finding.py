"""What finds people, and through which lens: the options that fit, video and batch share, and what comes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodyfit.cli.support import common, interrupt
from bodyfit.errors import ImageError, OptionError

if TYPE_CHECKING:
    from bodyfit.body.model import BodyModel
    from bodyfit.detect import Detector
    from bodyfit.io import KeypointFiles
    from bodyfit.io.keypoints.entry import Entry
    from bodyfit.io.masks import MaskFiles

__all__ = [
    "DETECTOR",
    "DepthOption",
    "DetectorOption",
    "FaceOption",
    "Finding",
    "FocalMmOption",
    "FocalPxOption",
    "FovOption",
    "HandsOption",
    "KeypointLayoutOption",
    "KeypointsOption",
    "LearnedPriorOption",
    "MasksOption",
    "SensorMmOption",
    "SilhouetteOption",
    "TtaOption",
    "checked_lens",
    "depth_folder",
    "matched",
    "note_unused",
    "with_surface",
]

DETECTOR = "movenet"
"""`detect.DEFAULT`, known before anything slow is imported."""

FocalPxOption = Annotated[
    float | None, typer.Option("--focal-px", help="Focal length in pixels of the upright picture.")
]
FocalMmOption = Annotated[
    float | None, typer.Option("--focal-mm", help="Focal length in millimetres, with --sensor-mm.")
]
SensorMmOption = Annotated[
    float | None, typer.Option("--sensor-mm", help="Width of the sensor along the picture's longer side, e.g. 36.")
]
FovOption = Annotated[
    float | None, typer.Option("--fov", help="Field of view along the picture's longer side, in degrees.")
]
DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        help='What finds people and their keypoints: "movenet", "movenet:accurate" (slower), "movenet:quick", '
        '"mediapipe", "rtmpose:WEIGHTS.onnx", or one installed.',
    ),
]
TtaOption = Annotated[
    bool, typer.Option("--tta", help="Look at each person up to twelve times, mirrored and turned, and average.")
]
HandsOption = Annotated[
    bool | None, typer.Option("--hands/--no-hands", help="Fit fingers; by default where the model has them.")
]
FaceOption = Annotated[
    bool | None,
    typer.Option("--face/--no-face", help="Fit jaw, eyes, expression; by default where the model has them."),
]
SilhouetteOption = Annotated[
    bool | None,
    typer.Option("--silhouette/--no-silhouette", help="Fit shapes to people's masks too; the detector's, or --masks."),
]
MasksOption = Annotated[
    Path | None,
    typer.Option("--masks", help="Folder of masks: NAME.png, of numbers for several people, or NAME.person0.png ..."),
]
LearnedPriorOption = Annotated[
    bool,
    typer.Option(
        "--learned-prior/--no-learned-prior",
        help="Ask a network which poses the keypoints leave open (docs/learned-prior.md).",
    ),
]
DepthOption = Annotated[
    Path | None,
    typer.Option(
        "--depth",
        help="Folder of depth maps, named as the pictures: 16-bit PNG in mm, npy or npz (depth, K) in metres.",
    ),
]
KeypointsOption = Annotated[
    Path | None,
    typer.Option("--keypoints", help="Files of keypoints (OpenPose, COCO, MMPose, Ultralytics ...) in its place."),
]
KeypointLayoutOption = Annotated[
    str | None, typer.Option("--keypoint-layout", help="Their layout, where the files do not tell it.")
]


def depth_folder(folder: Path | None) -> Path | None:
    """Check --depth. Raises `OptionError`."""
    if folder is not None and not folder.is_dir():
        raise OptionError(f"--depth {folder} is no folder; give that of the depth maps")
    return folder


def with_surface(silhouette: bool | None, surface: bool, model: str) -> bool | None:
    """Return whether shapes are fitted to masks, which --surface needs. Raises `OptionError`."""
    if not surface:
        return silhouette
    with interrupt.at_once():
        from bodyfit.body.families.open import OPEN_FAMILIES

    if silhouette is False:
        raise OptionError("--surface needs masks; leave --no-silhouette out")
    if model not in OPEN_FAMILIES:
        raise OptionError(f"--surface is of the open bodies ({', '.join(OPEN_FAMILIES)}), not {model}")
    return True


def checked_lens(
    focal_px: float | None, focal_mm: float | None, sensor_mm: float | None, fov_deg: float | None
) -> dict[str, float | None]:
    """What `pipeline.Lens` takes, seen to be possible before the slow part, for a picture that it would suit.

    Raises `OptionError`.
    """
    with interrupt.at_once():
        from bodyfit.geometry.camera import focal_px_from

    sensible = focal_px is not None and math.isfinite(focal_px) and focal_px >= 1
    side = round(focal_px) if sensible and focal_px else 1000
    lens = {"focal_px": focal_px, "focal_mm": focal_mm, "sensor_mm": sensor_mm, "fov_deg": fov_deg}
    focal_px_from((side, side), **lens)
    return lens


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the user said of who finds people."""

    detector: str = DETECTOR
    """Its name."""
    tta: bool = False
    """Whether it looks at everyone many times."""
    keypoints: Path | None = None
    """Files in its place."""
    layout: str | None = None
    """What is in them."""
    hands: bool | None = None
    """Whether it looks for hands; None for where the model has fingers."""
    face: bool | None = None
    """The same of the face."""
    silhouette: bool | None = None
    """Whether shapes are fitted to masks; None for where files of them are given."""
    masks: Path | None = None
    """Folder of these, in the place of the detector's."""

    def __post_init__(self) -> None:
        """Raises `OptionError` for options that contradict each other."""
        if self.layout is not None and self.keypoints is None:
            raise OptionError("--keypoint-layout is of the files of --keypoints; give those too")
        if self.keypoints is not None and self.detector != DETECTOR:
            raise OptionError("--keypoints take the place of a detector; leave --detector out")
        if self.keypoints is not None and self.tta:
            raise OptionError("--tta is for a detector; --keypoints take its place")
        if self.masks is not None and self.silhouette is False:
            raise OptionError("--masks are for silhouettes; leave --no-silhouette out")
        if self.silhouette and self.masks is None and self.keypoints is not None:
            raise OptionError("--silhouette needs masks, which --keypoints have none of; give them by --masks DIR")

    @property
    def use_masks(self) -> bool:
        """Whether the detector's masks are wanted."""
        return bool(self.silhouette) and self.masks is None

    def mask_files(self) -> MaskFiles | None:
        """The files of masks; None without. Raises `OptionError` for a folder without masks."""
        if self.masks is None:
            return None
        with interrupt.at_once():
            from bodyfit.io.masks import MaskFiles

        try:
            return MaskFiles(self.masks)
        except ImageError as fault:
            raise OptionError(f"--masks: {fault}") from None

    @property
    def name(self) -> str:
        """For summaries."""
        return self.detector if self.keypoints is None else f"keypoints {self.keypoints}"

    def check_name(self) -> None:
        """Raises `OptionError` for a detector that is not there."""
        with interrupt.at_once():
            from bodyfit.detect import detector_names

        if self.detector.partition(":")[0] not in (names := detector_names()):
            raise OptionError(f"--detector must be one of {', '.join(names)}, got {self.detector!r}")

    def load_detector(self, model: BodyModel | None = None) -> Detector:
        """The detector, its networks loaded, which looks for what is wanted of hands and face. Raises `OptionError` and
        `DetectorError`."""
        self.check_name()
        with interrupt.at_once():
            from bodyfit.app.parts import detector_of_parts

            insist = bool(self.hands or self.face)
            how = {"tta": self.tta, "insist": insist, "masks": self.use_masks}
            return detector_of_parts(self.detector, self.parts(model), **how)

    def parts(self, model: BodyModel | None) -> dict[str, bool]:
        """Whether hands and face are wanted. Raises `OptionError` where the model lacks what is asked for."""
        with interrupt.at_once():
            from bodyfit.app.parts import parts_to_fit

        return parts_to_fit(model, self.hands, self.face)


def matched(path: Path, layout: str | None, pictures: Sequence[Path]) -> KeypointFiles:
    """The keypoint files, once they are seen to be of these pictures; entries of other pictures are told.

    Raises `KeypointFileError` for files that cannot be read and `OptionError` where none is of any of the pictures.
    """
    with interrupt.at_once():
        from bodyfit.io import load_keypoints
        from bodyfit.io.keypoints.entry import join, listed
        from bodyfit.io.keypoints.values import printable

        files = load_keypoints(path, layout=layout)
    for note in files.notes:
        common.error(note, label="note")
    match = files.match(pictures)
    if not match.found:
        raise OptionError(
            f"--keypoints {path} has nothing of the pictures {join([printable(p.name) for p in match.missing])}; "
            f"it has {listed(match.unused) or 'none'}; its names must be the pictures'"
        )
    if match.missing:
        lacking = join([printable(p.name) for p in match.missing])
        common.error(f"{len(match.missing)} of {len(pictures)} pictures have no keypoints in {path}: {lacking}")
    if match.unused:
        note_unused(match.unused, "no picture")
    return files


def note_unused(entries: Sequence[Entry], of: str) -> None:
    """Tell the user of entries of keypoint files that are used for nothing: they match `of`."""
    from bodyfit.io.keypoints.entry import listed

    what = "entry matches" if len(entries) == 1 else "entries match"
    common.error(f"{len(entries)} {what} {of}: {listed(entries)}", label="note")
