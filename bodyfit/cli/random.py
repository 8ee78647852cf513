"""`bodyfit random`: bodies out of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodyfit.cli import common

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from bodyfit.body.model import BodyModel

__all__ = ["random"]

_DRAWN = 64
"""Bodies on the contact sheet; of more, the first."""


def random(
    out: common.OutOption,
    n: Annotated[int, typer.Option("-n", "--number", min=1, max=10000, help="How many bodies.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bodies.")] = 0,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    verbose: common.VerboseOption = False,
) -> int:
    """Make random bodies: shapes of the model's population in natural poses.

    Writes bodies.npz (the parameters of all), bodies.png (a picture of the first 64) and a mesh of each as obj and
    glb, numbered from 0.

    Examples:
        bodyfit random -o bodies
        bodyfit random -n 100 --seed 7 --gender female -o bodies
    """
    import torch

    import bodyfit
    from bodyfit import io

    common.output_folder(out)
    body = common.chosen_model(model, gender, "cpu")
    params = bodyfit.random_bodies(n, model=body, seed=seed)
    io.save_params(params, out / "bodies.npz", body.gender)
    drawn: list[Tensor] = []
    digits = len(str(n - 1))
    for i in range(n):  # one at a time, so that many need no more memory than one
        with torch.no_grad():
            vertices = body(**params.select([i])).vertices[0]
        _save_mesh(out / f"body{i:0{digits}d}", body, vertices)
        if i < _DRAWN:
            drawn.append(vertices)
    io.save_picture(out / "bodies.png", _sheet(drawn, body))
    names = f"body{0:0{digits}d}" + (f" to body{n - 1}" if n > 1 else "")
    common.say(f"{n} {'body' if n == 1 else 'bodies'} -> {out}: bodies.npz, bodies.png, {names} as obj and glb")
    return common.OK


def _save_mesh(path: Path, body: BodyModel, vertices: Tensor) -> None:
    from bodyfit import io

    faces = body.faces
    io.save_obj(path.with_suffix(".obj"), vertices, faces, uv=body.uv, uv_faces=body.uv_faces, axes="y_up")
    io.save_glb(path.with_suffix(".glb"), vertices, faces, axes="y_up")


def _sheet(drawn: list[Tensor], body: BodyModel) -> np.ndarray:
    from bodyfit import render

    size = (360, 480) if len(drawn) <= 16 else (180, 240)
    pictures = [
        render.turn_view(vertices, body.faces, 20.0, size, color=render.person_color(i))
        for i, vertices in enumerate(drawn)
    ]
    return render.contact_sheet(pictures)
