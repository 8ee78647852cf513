"""Load the pictures of `scripts.train.field_pictures` with the samples of their bodies, cast once and cached."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bodyfit.body.model import load_model
from bodyfit.body.params import BodyParams
from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.network import FieldNetwork, NetworkConfig, SceneBatch
from bodyfit.fields.compositional.samples import PackedSamples, Window, gather
from bodyfit.fields.compositional.scene import BodyField, FieldCamera, cast_object
from bodyfit.io.results.params import read_arrays, write_arrays
from scripts.train.field_pictures import GENDERS, MODEL

__all__ = ["FieldPicture", "batch_of", "load_split"]

_ARRAYS = tuple(f.name for f in fields(PackedSamples) if f.name != "step_m")


@dataclass(frozen=True, eq=False)
class FieldPicture:
    """One picture with all that is known of it."""

    picture: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    alpha: UInt8[np.ndarray, "S S"]
    """Of people, 255 where they hide the background."""
    bodies: tuple[PackedSamples, ...]
    """Samples of each person."""
    people: tuple[int, ...]
    """Who of the cast they are."""
    params: tuple[BodyParams, ...]
    """Their bodies, world axes."""
    genders: tuple[str, ...]
    """Of their models."""
    background: int
    """Which background."""
    camera: FieldCamera
    """Who looks."""


def load_split(
    folder: Path, name: str, config: NetworkConfig | None = None, *, most: int | None = None
) -> list[FieldPicture]:
    """Load a split, or its first `most` pictures, with samples for networks of some sizes."""
    config = NetworkConfig() if config is None else config
    pictures: list[FieldPicture] = []
    for path in sorted(folder.glob(f"{name}_[0-9][0-9][0-9].npz")):
        if most is not None and len(pictures) >= most:
            break
        pictures += _shard(path, config)
    if not pictures:
        raise SystemExit(f"{folder}: no pictures of split {name}; draw them with scripts.train.field_pictures")
    return pictures[:most]


def _shard(path: Path, config: NetworkConfig) -> list[FieldPicture]:
    arrays = read_arrays(path)
    names = [k for k in arrays if k.startswith("param_")]
    of_body = [
        BodyParams(**{n.removeprefix("param_"): torch.from_numpy(arrays[n][b : b + 1]) for n in names})
        for b in range(len(arrays["body_picture"]))
    ]
    size = arrays["picture"].shape[1]
    cameras = [
        FieldCamera(float(f), R, t, size)
        for f, R, t in zip(arrays["focal_px"], arrays["R_cam_world"], arrays["t_cam_world_m"], strict=True)
    ]
    genders = [GENDERS[g] for g in arrays["body_gender"]]
    side = size // config.upsampling
    cast = _samples(path, side, config, of_body, genders, [cameras[k] for k in arrays["body_picture"]])
    out = []
    for k, camera in enumerate(cameras):
        rows = np.flatnonzero(arrays["body_picture"] == k)
        out.append(
            FieldPicture(
                arrays["picture"][k],
                arrays["alpha"][k],
                tuple(cast[b] for b in rows),
                tuple(int(arrays["body_person"][b]) for b in rows),
                tuple(of_body[b] for b in rows),
                tuple(genders[b] for b in rows),
                int(arrays["background"][k]),
                camera,
            )
        )
    return out


def _samples(
    path: Path,
    side: int,
    config: NetworkConfig,
    bodies: list[BodyParams],
    genders: list[str],
    cameras: list[FieldCamera],
) -> list[PackedSamples]:
    """Cast the bodies of a shard, or read what was cast before."""
    cache = path.with_name(f"{path.stem}.cast_{side}_{config.anchors}.npz")
    if not cache.is_file():
        models = {g: load_model(MODEL, gender=g) for g in GENDERS}
        atlas, nobody = surface_atlas(config.anchors, config.coarse), torch.zeros(1)
        made = [
            cast_object(BodyField(body, models[gender], nobody), camera, atlas, side)
            for body, gender, camera in zip(bodies, genders, cameras, strict=True)
        ]
        joined = {name: np.concatenate([getattr(one, name) for one in made]) for name in _ARRAYS if name != "ptr"}
        joined["ptr"] = np.stack([one.ptr for one in made]).astype(np.int32)
        write_arrays(cache, joined | {"step_m": np.array(made[0].step_m)})
        print(f"cast {path.name}", file=sys.stderr)
    arrays = read_arrays(cache)
    ends = np.cumsum(arrays["ptr"][:, -1])
    out = []
    for ptr, end in zip(arrays["ptr"], ends, strict=True):
        rows = {name: arrays[name][end - ptr[-1] : end] for name in _ARRAYS if name != "ptr"}
        out.append(PackedSamples(ptr=ptr.astype(np.int64), **rows, step_m=float(arrays["step_m"])))
    return out


def batch_of(
    pictures: Sequence[FieldPicture],
    windows: Sequence[Window] | None,
    network: FieldNetwork,
    appearances: Float[Tensor, "K D"],
    backgrounds: Float[Tensor, "M E"],
) -> tuple[SceneBatch, Float[Tensor, "P 3 H W"], Float[Tensor, "P H W"]]:
    """What networks are fed, true pictures and alpha, of windows of pictures; whole pictures if they are left out."""
    up = network.config.upsampling
    side = pictures[0].camera.size // up
    windows = [(0, side, 0, side)] * len(pictures) if windows is None else windows
    parts = [(body, k) for k, one in enumerate(pictures) for body in one.bodies]
    directions, truth, alpha = [], [], []
    for one, window in zip(pictures, windows, strict=True):
        directions.append(one.camera.directions(side, window))
        top, bottom, left, right = window
        part = slice(top * up, bottom * up), slice(left * up, right * up)
        truth.append(one.picture[part])
        alpha.append(one.alpha[part])
    device = appearances.device

    def tensor(rows: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(device)

    people = torch.tensor([i for one in pictures for i in one.people], device=device)
    behind = torch.tensor([one.background for one in pictures], device=device)
    samples = gather(parts, windows, side).to(device)
    batch = SceneBatch(samples, appearances[people], tensor(directions), backgrounds[behind])
    return batch, tensor(truth).permute(0, 3, 1, 2).float() / 255, tensor(alpha).float() / 255
