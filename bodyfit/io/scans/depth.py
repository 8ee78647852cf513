"""Read depth maps: 16-bit PNG in millimetres, or npy and npz in metres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from bodyfit.errors import ScanError
from bodyfit.io.results.params import read_arrays

__all__ = ["DepthMap", "find_depth", "load_depth"]

_SUFFIXES = (".png", ".npy", ".npz")


@dataclass(frozen=True)
class DepthMap:
    """A depth map."""

    depth_m: Float[np.ndarray, "H W"]
    """Distance along the optical axis, metres; 0 or NaN where it was not measured."""
    focal_px: float | None = None
    """Focal length, where the file has it."""

    def at_size(self, size: tuple[int, int], path: Path) -> DepthMap:
        """Return the map at the size (width, height) of a picture of the same camera, by nearest pixels.

        Raises `ScanError`, naming the file, where the ratio of the sides differs.
        """
        height, width = self.depth_m.shape
        if abs(width / height - size[0] / size[1]) > 0.02 * width / height:
            raise ScanError(
                f"{path}: a depth map of {width}x{height} pixels is not of a picture of {size[0]}x{size[1]};"
                " align it first"
            )
        rows = np.floor((np.arange(size[1]) + 0.5) * height / size[1]).astype(np.int64)
        columns = np.floor((np.arange(size[0]) + 0.5) * width / size[0]).astype(np.int64)
        focal = None if self.focal_px is None else self.focal_px * size[0] / width
        return DepthMap(self.depth_m[rows[:, None], columns], focal)


def find_depth(folder: Path, picture: Path) -> Path:
    """Find the depth map of a picture, which has its name and ends in .png, .npy or .npz. Raises `ScanError`."""
    for suffix in _SUFFIXES:
        path = folder / f"{picture.stem}{suffix}"
        if path.is_file():
            return path
    raise ScanError(f"{folder}: no depth map {picture.stem}.png, .npy or .npz for {picture.name}")


def load_depth(path: Path) -> DepthMap:
    """Read a depth map. An npz has `depth`, and may have `K` (3, 3). Raises `ScanError`, naming the file."""
    suffix, focal = path.suffix.lower(), None
    try:
        if suffix == ".npz":
            arrays = read_arrays(path)
            if "depth" not in arrays:
                raise ScanError(f"{path}: has no array depth, but {', '.join(arrays) or 'nothing'}")
            depth = arrays["depth"]
            if "K" in arrays:
                K = np.asarray(arrays["K"], np.float64)
                if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
                    raise ScanError(f"{path}: K must be a camera matrix (3, 3) in pixels, got {K.shape}")
                focal = float(np.sqrt(K[0, 0] * K[1, 1]))
        elif suffix == ".npy":
            with path.open("rb") as file:
                depth = np.load(file, allow_pickle=False)
        else:
            with Image.open(path) as image:
                if image.mode not in ("I", "I;16", "I;16B", "I;16L"):
                    raise ScanError(f"{path}: a depth map as PNG has 16 bits a pixel, in millimetres; got {image.mode}")
                depth = np.asarray(image).astype(np.float64) / 1000
    except ScanError:
        raise
    except Exception as error:  # readers raise whatever their parsing runs into
        raise ScanError(f"{path}: damaged, or no depth map: {error}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "fiu" or 0 in depth.shape:
        raise ScanError(f"{path}: depth must be numbers (H, W), got {depth.dtype} {depth.shape}")
    return DepthMap(depth.astype(np.float64), focal)
