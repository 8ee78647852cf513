"""Detectors by name: bodyfit's own, and those that other packages bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import metadata

from bodyfit.detect.base import Detector
from bodyfit.errors import BodyfitError, DetectorError, OptionError

__all__ = ["DEFAULT", "DETECTORS", "GROUP", "detector_names", "load_detector", "sees_masks", "sees_parts"]

DEFAULT = "movenet"
"""The detector that every command takes unless told otherwise."""
GROUP = "bodyfit.detectors"
"""The entry points by which an installed package brings detectors of its own."""


def _movenet(
    *,
    argument: str | None = None,
    tta: bool = False,
    hands: bool = False,
    face: bool = False,
    masks: bool = False,
    max_people: int | None = None,
) -> Detector:
    from bodyfit.detect.accurate import AccurateDetector
    from bodyfit.detect.movenet import MovenetDetector

    if argument not in (None, "quick", "accurate"):
        raise OptionError(
            f"the detector movenet knows movenet, movenet:quick and movenet:accurate, got movenet:{argument}"
        )
    if argument == "accurate":
        return AccurateDetector(tta=tta, hands=hands, face=face, masks=masks, max_people=max_people)
    quick = argument == "quick"
    if quick and tta:
        raise OptionError("movenet:quick looks at each person once; take movenet for tta")
    return MovenetDetector(quick=quick, tta=tta, hands=hands, face=face, masks=masks, max_people=max_people)


def _mediapipe(*, max_people: int | None = None) -> Detector:
    from bodyfit.detect.mediapipe import MediapipeDetector

    return MediapipeDetector(max_people=max_people)


def _rtmpose(*, argument: str | None = None, max_people: int | None = None) -> Detector:
    from bodyfit.detect.rtmpose import RtmposeDetector

    return RtmposeDetector(argument, max_people=max_people)


def _vitpose(*, argument: str | None = None, max_people: int | None = None) -> Detector:
    from bodyfit.detect.vitpose import VitposeDetector

    return VitposeDetector(argument, max_people=max_people)


def _yolo(*, argument: str | None = None, max_people: int | None = None) -> Detector:
    from bodyfit.detect.yolo import YoloDetector

    return YoloDetector(argument, max_people=max_people)


DETECTORS: dict[str, Callable[..., Detector]] = {
    "movenet": _movenet,
    "mediapipe": _mediapipe,
    "rtmpose": _rtmpose,
    "vitpose": _vitpose,
    "yolo": _yolo,
}
"""The detectors that come with bodyfit, by name; each is imported when it is asked for."""


def detector_names() -> list[str]:
    """The names that `load_detector` takes: bodyfit's own, then those of installed packages."""
    return [*DETECTORS, *sorted({entry.name for entry in metadata.entry_points(group=GROUP)} - DETECTORS.keys())]


def load_detector(
    name: str = DEFAULT,
    *,
    tta: bool = False,
    hands: bool = False,
    face: bool = False,
    masks: bool = False,
    max_people: int | None = None,
) -> Detector:
    """The detector of that name, with its networks loaded; "NAME:ARGUMENT" for one that takes an argument, a path say.

    `tta` looks several times and averages; `hands`, `face` and `masks` ask for those layers of `Keypoints2D`;
    `max_people` keeps the largest. A detector is made by a callable (a class, say) that takes those of these options
    that it knows, by keyword. A name of bodyfit's own cannot be taken by another package.

    Raises `OptionError` for a name that is none or an option that the detector does not know, and `DetectorError`
    where it cannot run here.
    """
    name, _, argument = name.partition(":")
    make = DETECTORS[name] if name in DETECTORS else _installed(name)
    options = {"tta": tta, "hands": hands, "face": face, "masks": masks, "max_people": max_people}
    options["argument"] = argument or None
    options = {option: value for option, value in options.items() if value not in (False, None)}
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise OptionError(f"the detector {name} has no option {option}; movenet has them all")
    detector = make(**options)
    if not isinstance(detector, Detector):
        raise DetectorError(f"the detector {name} has no method detect(frames); see docs/detectors.md")
    return detector


def sees_masks(name: str) -> bool:
    """Whether the detector of that name takes the option `masks`. Raises `OptionError` for a name that is none."""
    name = name.partition(":")[0]
    return "masks" in inspect.signature(DETECTORS[name] if name in DETECTORS else _installed(name)).parameters


def sees_parts(name: str) -> bool:
    """Whether the detector of that name takes the options `hands` and `face`. Raises `OptionError` for a name that is
    none."""
    name = name.partition(":")[0]
    known = inspect.signature(DETECTORS[name] if name in DETECTORS else _installed(name)).parameters
    return {"hands", "face"} <= known.keys()


def _installed(name: str) -> Callable[..., Detector]:
    """What makes the detector that an installed package brings under a name."""
    found = {entry.value: entry for entry in metadata.entry_points(group=GROUP, name=name)}
    if not found:
        raise OptionError(f"detector must be one of {', '.join(detector_names())}, got {name!r}")
    if len(found) > 1:
        raise OptionError(f"two packages bring a detector {name!r}: {', '.join(sorted(found))}; uninstall one")
    (entry,) = found.values()
    try:
        return entry.load()
    except BodyfitError:
        raise
    except Exception as error:  # the package's own code: whatever it stumbles over, the user should know whose it is
        package = entry.dist.name if entry.dist else "its package"
        raise DetectorError(f"the detector {name} of {package} cannot be imported ({error!r})") from error
