"""`bodyfit random`: bodies out of nothing."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from bodyfit.body.model import BodyModel, BodyParams

__all__ = ["random"]

_DRAWN = 64
"""Bodies on the contact sheet; of more, the first."""
_CHUNK = 64
"""Bodies in memory as meshes."""


class Pose(str, Enum):
    """How the bodies stand."""

    MOCAP_LIKE = "mocap-like"
    REST = "rest"
    A_POSE = "a-pose"


def random(
    out: common.OutOption,
    n: Annotated[int, typer.Option("-n", "--number", min=1, max=10000, help="How many bodies.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bodies.")] = 0,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    pose: Annotated[
        Pose, typer.Option("--pose", help="Poses as in motion capture, the T-pose, or the arms 45 degrees down.")
    ] = Pose.MOCAP_LIKE,
    heights: Annotated[
        str | None, typer.Option("--heights", metavar="LOW:HIGH", help="Least and greatest height, metres: 1.5:1.9.")
    ] = None,
    floor: Annotated[bool, typer.Option("--floor", help="Put the lowest point of each body at y = 0.")] = False,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Make random bodies: shapes of the model's population in natural poses, no hand in the chest.

    Writes bodies.npz (the parameters of all), measurements.csv (height, mass, girths and lengths of each), bodies.png
    (a picture of the first 64) and a mesh of each as obj and glb, numbered from 0.

    Examples:
        bodyfit random -o bodies
        bodyfit random -n 64 --seed 7 --gender female --heights 1.5:1.9 --floor -o bodies
        bodyfit random -n 8 --pose a-pose --model SMPL_NEUTRAL.pkl -o bodies
    """
    import bodyfit
    from bodyfit import io

    span = None if heights is None else _span(heights)
    common.output_folder(out)
    body = common.chosen_model(model, gender, "cpu")
    params = bodyfit.random_bodies(n, model=body, seed=seed, pose=pose.value, heights=span, floor=floor)
    io.save_params(params, out / "bodies.npz", model=body)
    names = [f"body{i:0{len(str(n - 1))}d}" for i in range(n)]
    table = _measured(params, body)
    _save_table(out / "measurements.csv", names, table)
    drawn = _save_meshes(out, names, body, params)
    io.save_picture(out / "bodies.png", _sheet(drawn, body))
    _remove_others(out, names)
    if as_json:
        common.say_json(_facts(names, table, body, seed, pose))
    else:
        some = names[0] + (f" to {names[-1]}" if n > 1 else "")
        kinds = "bodies.npz, measurements.csv, bodies.png"
        common.say(f"{n} {'body' if n == 1 else 'bodies'} -> {out}: {kinds}, {some} as obj and glb")
    return common.OK


def _span(text: str) -> tuple[float, float]:
    """Two heights; what they may be, the library says."""
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise OptionError(f"--heights must be LOW:HIGH in metres, as 1.5:1.9, got {text!r}") from None
    return low, high


def _measured(params: BodyParams, body: BodyModel) -> dict[str, list[float]]:
    """Columns of the table; their names end in the unit."""
    import torch

    parts = [body.measure(betas) for betas in params.betas.split(_CHUNK)]
    table = {
        f"{f.name}_{'kg' if f.name == 'mass' else 'm'}": torch.cat([getattr(part, f.name) for part in parts]).tolist()
        for f in fields(parts[0])
    }
    return table | {"bmi_kg_m2": torch.cat([part.bmi for part in parts]).tolist()}


def _save_table(path: Path, names: list[str], table: dict[str, list[float]]) -> None:
    """A row for each body; what a body does not have is left empty."""
    from bodyfit import io

    rows = [",".join(["body", *table])]
    for name, *values in zip(names, *table.values(), strict=True):
        rows.append(",".join([name, *("" if v != v else f"{v:.4f}" for v in values)]))
    with io.write_atomically(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="ascii")


def _facts(names: list[str], table: dict[str, list[float]], body: BodyModel, seed: int, pose: Pose) -> dict[str, Any]:
    bodies = [
        {"body": name, "files": [f"{name}.obj", f"{name}.glb"]} | dict(zip(table, values, strict=True))
        for name, *values in zip(names, *table.values(), strict=True)
    ]
    files = ["bodies.npz", "measurements.csv", "bodies.png"]
    model = {"model": body.kind.title, "gender": body.gender}
    return model | {"seed": seed, "pose": pose.value, "files": files, "bodies": bodies}


def _save_meshes(out: Path, names: list[str], body: BodyModel, params: BodyParams) -> list[Tensor]:
    """Write each body; returns the vertices of those that are to be drawn. Few at a time are in memory."""
    import torch

    from bodyfit import io

    drawn: list[Tensor] = []
    for rows in torch.arange(len(names)).split(_CHUNK):
        with torch.no_grad():
            vertices = body(**params.select(rows)).vertices
        for i, points in zip(rows.tolist(), vertices, strict=True):
            mesh = out / f"{names[i]}.obj"
            io.save_obj(mesh, points, body.faces, uv=body.uv, uv_faces=body.uv_faces, axes="y_up")
            io.save_glb(mesh.with_suffix(".glb"), points, body.faces, axes="y_up")
            if i < _DRAWN:
                drawn.append(points)
    return drawn


def _remove_others(out: Path, names: list[str]) -> None:
    """Meshes of an earlier run with more bodies, which the parameters are not of."""
    for path in out.iterdir():
        if re.fullmatch(r"body\d+\.(obj|glb)", path.name) and path.stem not in names:
            path.unlink(missing_ok=True)


def _sheet(drawn: list[Tensor], body: BodyModel) -> np.ndarray:
    from bodyfit import render

    size = (360, 480) if len(drawn) <= 16 else (180, 240)
    pictures = [
        render.turn_view(vertices, body.faces, 20.0, size, color=render.person_color(i))
        for i, vertices in enumerate(drawn)
    ]
    return render.contact_sheet(pictures)
