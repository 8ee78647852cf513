"""A detector that does what a file's name says, installed as a package of its own for worker processes to find."""

from __future__ import annotations

import inspect
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bodyfit.errors import DetectorError
from bodyfit.keypoints import Keypoints2D

__all__ = ["NAME", "Doing", "FakeDetector", "install", "picture"]

NAME = "by_name"
_COCO = [
    *[(0, -72), (3, -75), (-3, -75), (7, -73), (-7, -73), (19, -54), (-19, -54), (26, -28), (-26, -28)],
    *[(29, -4), (-29, -4), (11, 0), (-11, 0), (13, 42), (-13, 42), (14, 82), (-14, 82)],
]
"""Somebody who stands and looks at the camera: COCO's points about the hips, pixels."""


class FakeDetector:
    """A person in each picture; `nobody`, `abort`, `hang`, `slow` and `raise` in a name say otherwise."""

    def detect(self, frames):
        return [self._people(str(frame.path.name), frame.size) for frame in frames]

    def _people(self, name: str, size: tuple[int, int]) -> list[Keypoints2D]:
        if "BATCH_LOG" in os.environ:
            with open(os.environ["BATCH_LOG"], "a") as log:
                log.write(f"{os.getpid()} {name} {os.getppid()}\n")
        if "abort" in name:
            os.abort()
        if "hang" in name:
            time.sleep(600)
        if "slow" in name:
            time.sleep(0.2)
        if "raise" in name:
            raise ZeroDivisionError("by name")
        if "nobody" in name:
            return []
        xy = 1.5 * np.array(_COCO) + (size[0] / 2 + sum(name.encode()) % 7, size[1] / 2)
        return [Keypoints2D("coco17", np.concatenate([xy, np.full((17, 1), 0.9)], 1).astype(np.float32))]


def install(folder: Path) -> Path:
    """Make `folder` a place to import the detector from, which its entry point names; returns it."""
    info = folder / "batch_fake-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: batch-fake\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[bodyfit.detectors]\n{NAME} = batch_fake:FakeDetector\n")
    (folder / "batch_fake.py").write_text(Path(inspect.getfile(FakeDetector)).read_text())
    return folder


def picture(path: Path, size: tuple[int, int] = (320, 320)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(path)
    return path


@dataclass(frozen=True)
class Doing:
    """A `make` for `WorkerPool` without pictures: items are words that say what happens."""

    begins: str = ""

    def __call__(self):
        if self.begins == "refuses":
            raise DetectorError("no network here")
        if self.begins == "dies":
            os._exit(3)

        def answer(item: str):
            if item.startswith("abort"):
                os.abort()
            if item.startswith("hang"):
                time.sleep(600)
            if item.startswith("raise"):
                raise ZeroDivisionError("by word")
            if item.startswith("pid"):
                time.sleep(0.02)
            if item.startswith("big"):
                return os.getpid(), bytes(3_000_000)
            return os.getpid(), "torch" in sys.modules

        return answer
