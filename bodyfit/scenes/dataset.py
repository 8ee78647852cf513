"""Load a folder of scenes for training with torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from bodyfit.errors import AssetError, ImageError, OptionError
from bodyfit.io.results.params import read_arrays
from bodyfit.scenes.config import LABELS, MORE_LABELS

__all__ = ["SceneDataset"]

_CAMERA = ("K", "distortion", "R_cam_world", "t_cam_world_m")
_NAMES = ("gender", "model", "axes", "foot_names")


class SceneDataset(Dataset[dict[str, Any]]):
    """The pictures of a folder of `bodyfit scene`, and labels by name.

    An item is a dictionary: `image` (3, S, S) uint8 RGB, or (4, S, S) without a background; of `labels` `masks`,
    `garments` and `parts` (S, S) int64, `depth` and `depth_npy` (S, S) float32 metres (0 and infinite for nothing),
    `normals` (3, S, S) float32 (right, up, towards the camera; 0 for nothing); `params`, the parameters of everyone by
    name, a row a person, and `gender`, a list; the camera's `K`, `distortion`, `R_cam_world` and `t_cam_world_m`;
    `annotations`, COCO's records of those who are visible; and `id`. The number of people varies: give `DataLoader` a
    collate_fn, such as `list`.
    """

    def __init__(self, folder: str | Path, labels: tuple[str, ...] = ("masks",)) -> None:
        """Open a folder. Raises `OptionError` where it has no scenes or not these labels, and `AssetError`."""
        self.folder, self.labels = Path(folder), tuple(labels)
        if wrong := sorted(set(labels) - {*LABELS, *MORE_LABELS}):
            raise OptionError(f"labels must be of {', '.join((*LABELS, *MORE_LABELS))}, got {', '.join(wrong)}")
        for name in ("images", "params", "scenes", *labels):
            if not (self.folder / name).is_dir():
                raise OptionError(f"{self.folder}: no folder {name}/; write it with bodyfit scene")
        self._numbers = sorted(path.stem for path in (self.folder / "scenes").glob("[0-9]*.json"))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Load one scene. Raises `ImageError` and `AssetError`, naming the file."""
        name = self._numbers[index]
        record = self._record(name)
        picture = self._picture(".", record["image"]["file_name"])
        item: dict[str, Any] = {"id": int(name), "image": picture.permute(2, 0, 1)}
        for label in self.labels:
            item[label] = self._label(label, name)
        arrays = read_arrays(self.folder / "params" / f"{name}.npz")
        item |= {key: torch.from_numpy(arrays[key]) for key in _CAMERA}
        item["gender"] = arrays["gender"].tolist()
        item["params"] = {k: torch.from_numpy(v) for k, v in arrays.items() if k not in (*_CAMERA, *_NAMES)}
        return item | {"annotations": record["annotations"]}

    def _record(self, name: str) -> dict[str, Any]:
        """Read what is known of a picture and of those who are visible. Raises `AssetError`."""
        path = self.folder / "scenes" / f"{name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if Path(record["image"]["file_name"]).parts[:-1] != ("images",):
                raise ValueError("its picture is not in images/")
            return {"image": record["image"], "annotations": record["annotations"]}
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise AssetError(f"{path}: not a record of bodyfit scene ({fault})") from fault

    def _label(self, label: str, name: str) -> torch.Tensor:
        """Load one map."""
        if label == "depth_npy":
            path = self.folder / label / f"{name}.npy"
            try:
                return torch.from_numpy(np.load(path, allow_pickle=False))
            except (OSError, ValueError, EOFError) as fault:
                raise AssetError(f"{path}: not an array ({fault})") from fault
        values = self._picture(label, f"{name}.png")
        if label == "depth":
            return values.float() / 1000
        if label == "normals":
            normals = values.permute(2, 0, 1).float() / 127.5 - 1
            return torch.where((values > 0).any(2), normals, 0.0)
        return values.long()

    def _picture(self, folder: str, name: str) -> torch.Tensor:
        """Load a picture or map as it is stored, 16 bits as int32."""
        path = self.folder / folder / name
        try:
            with Image.open(path) as file:
                values = np.array(file)
        except OSError as fault:
            raise ImageError(f"{path}: not a readable picture ({fault})") from fault
        return torch.from_numpy(values if values.dtype == np.uint8 else values.astype(np.int32))
