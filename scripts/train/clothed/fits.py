"""Fit bodies to the drawn people that clothed surfaces are learned from: bodies and masks that err as users' do.

    python -m scripts.train.clothed.fits FOLDER [--first 0] [--shards 20] [--detector movenet]

For the shards of `scripts/train/clothed/people.py` in FOLDER, train-*.npz and held.npz, fits-*.npz and fits-held.npz
are written beside them; those that are there are left. Each picture is put before a background, people are detected in
it, and bodies fitted to keypoints and masks, the focal length known. 50 people take ten seconds of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

import bodyfit
from bodyfit.app.parts import detector_of_parts
from bodyfit.app.pipeline import Lens, as_frame, fit_detections
from bodyfit.detect import Detector
from bodyfit.fit.fitter import Fitter
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D, SoftMask
from bodyfit.runtime.atomic import write_atomically
from scripts.build.pose_prior import write_npz
from scripts.train.field_pictures import background

__all__ = ["fit_shard", "fits_path", "main", "on_canvas"]

_ENLARGED = 2
"""Detectors look at pictures so many times as large."""
_NAMES = ("betas", "body_pose", "global_orient", "transl")


def fits_path(shard: Path) -> Path:
    """Return the name of the file of fits to a shard."""
    return shard.with_name(f"fits-{shard.stem.removeprefix('train-')}.npz")


def on_canvas(
    drawn: UInt8[np.ndarray, "S S 4"], lens: Float[np.ndarray, "3"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "T T 3"], tuple[int, int]]:
    """Put a drawing before a background, on a larger square whose middle is the principal point.

    Returns the picture, `_ENLARGED` times as large, and where the drawing's corner lies in it, pixels.
    """
    size = _ENLARGED * len(drawn)
    large = cv2.resize(drawn, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    middle = np.round(_ENLARGED * lens[1:]).astype(int)
    half = int(np.maximum(middle, size - middle).max())
    y, x = (np.mgrid[: 2 * half, : 2 * half] + 0.5 - half) / (_ENLARGED * lens[0])
    ahead = np.stack([x, -y, -np.ones_like(x)], 2)
    ahead /= np.linalg.norm(ahead, axis=2, keepdims=True)
    picture = 255 * background(int(rng.integers(1000)), ahead).astype(np.float32) ** np.float32(1 / 2.2)
    corner = half - middle
    part = picture[corner[1] : corner[1] + size, corner[0] : corner[0] + size]
    part[:] = large[..., :3] + (1 - large[..., 3:] / 255) * part
    return (picture + rng.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8), (int(corner[0]), int(corner[1]))


def fit_shard(shard: Path, detector: Detector, fitters: dict[str, Fitter]) -> int:
    """Fit the people of a shard, each in one picture, and write their file; returns how many have a body."""
    own = fits_path(shard)
    rng = np.random.default_rng([int(own.stem.removeprefix("fits-").replace("held", "9999")), 89])
    with np.load(shard, allow_pickle=False) as data:
        pictures, lenses = data["pictures"], data["lens"].astype(np.float64)
    count, cameras, size = pictures.shape[:3]
    model = bodyfit.load_model()
    values = {name: np.zeros((count, model.params()[name].shape[1]), np.float32) for name in _NAMES}
    masks, good = np.zeros((count, size, size), np.uint8), np.zeros(count, bool)
    for lens_px, i, frame, corner, person in _detected(pictures, lenses, detector, rng):
        result = fit_detections([frame], [[person]], lens=Lens(focal_px=lens_px), fitters=fitters)[0][0]
        good[i] = result.status[0].ok
        for name in _NAMES if good[i] else ():
            values[name][i] = result.params[name][0].numpy()
        assert isinstance(person.mask, SoftMask)
        large = person.mask.full(frame.size)[corner[1] :, corner[0] :][: _ENLARGED * size, : _ENLARGED * size]
        masks[i] = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
    with write_atomically(own) as temporary:
        write_npz(temporary, {**values, "masks": masks, "good": good, "camera": np.arange(count) % cameras})
    return int(good.sum())


def _detected(
    pictures: UInt8[np.ndarray, "N K S S 4"],
    lenses: Float[np.ndarray, "N K 3"],
    detector: Detector,
    rng: np.random.Generator,
) -> Iterator[tuple[float, int, Frame, tuple[int, int], Keypoints2D]]:
    """The focal length, number, picture, corner and detection of each person who is found with a mask."""
    for i in range(len(pictures)):
        k = i % pictures.shape[1]
        picture, corner = on_canvas(pictures[i, k], lenses[i, k], rng)
        frame = as_frame(picture)
        found = detector.detect([frame])[0]
        if found and isinstance(found[0].mask, SoftMask):
            yield _ENLARGED * float(lenses[i, k, 0]), i, frame, corner, found[0]


def main() -> None:
    """Fit the shards that have no fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--detector", default="movenet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector, fitters = detector_of_parts(args.detector, {}, masks=True), {}
    for shard in [args.data / "held.npz", *sorted(args.data.glob("train-*.npz"))[args.first :][: args.shards]]:
        if not fits_path(shard).exists():
            print(f"{shard.name}: {fit_shard(shard, detector, fitters)} fits", flush=True)


if __name__ == "__main__":
    main()
