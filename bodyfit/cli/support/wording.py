"""Messages of the library in the words of the command line: Python arguments become options.

The library writes an argument as `name=value`, as a name with an underscore, or at the head of a message that says what
it "must" be; nothing else of a message is touched.
"""

from __future__ import annotations

import re

__all__ = ["OPTIONS", "in_options"]

OPTIONS = {
    "address": "--address",
    "axes": "--axes",
    "detector": "--detector",
    "device": "--device",
    "end_s": "--end",
    "first_frame": "--first-frame",
    "focal_mm": "--focal-mm",
    "focal_px": "--focal-px",
    "fov_deg": "--fov",
    "fps": "--fps",
    "frame": "--frame",
    "gender": "--gender",
    "grid_m": "--grid",
    "height_m": "--height",
    "heights": "--heights",
    "joints": "--joints",
    "keypoints": "--keypoints",
    "layout": "--keypoint-layout",
    "mass_kg": "--mass",
    "max_gap_s": "--max-gap",
    "model": "--model",
    "n": "-n",
    "opacity": "--opacity",
    "pose": "--pose",
    "pose_shapes": "--pose-shapes",
    "resume": "--resume",
    "retry_failed": "--retry-failed",
    "root": "--root",
    "seed": "--seed",
    "sensor_mm": "--sensor-mm",
    "source": "--photo",
    "start_s": "--start",
    "stride": "--stride",
    "timeout_s": "--timeout",
    "tta": "--tta",
    "unit": "--unit",
    "up": "--up",
    "workers": "--workers",
}
"""The option of each argument that messages may name."""

_NAMES = "|".join(sorted(OPTIONS, key=len, reverse=True))
_ARGUMENT = re.compile(rf"(?<![\w./\\-])({_NAMES})=(True\b)?(?:(['\"])(.*?)\3)?(?=(\w?))")
_HEAD = re.compile(rf"({_NAMES})(?= must )")
_NAMED = re.compile(rf"(?<![\w./\\-])({'|'.join(name for name in OPTIONS if '_' in name)})(?![\w./\\=-])")


def in_options(message: str) -> str:
    """Name options in place of arguments: `resume=True` becomes --resume, `detector='yolo:a.pt'` --detector yolo:a.pt,
    `focal_mm` --focal-mm."""

    def option(match: re.Match[str]) -> str:
        name, flag, _, quoted, bare = match.groups()
        value = "" if flag else f" {quoted}" if quoted else " " if bare else ""
        return OPTIONS[name] + value

    message = _ARGUMENT.sub(option, message)
    if head := _HEAD.match(message):
        message = OPTIONS[head[1]] + message[head.end() :]
    return _NAMED.sub(lambda match: OPTIONS[match[1]], message)
