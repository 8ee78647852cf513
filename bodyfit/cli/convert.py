"""`bodyfit convert`: a body model in another layout of file."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli import common

if TYPE_CHECKING:
    from bodyfit.body.record import BodyAssets

__all__ = ["convert"]


class Layout(str, Enum):
    """Layouts of model files that can be written."""

    BODYFIT = "bodyfit"
    SMPLX = "smplx"


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help='"open", "open-h" or "open-x" (shipped), or a model file (.npz, .pkl) or folder of them.',
        ),
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file to write; with --layout smplx also a folder.")],
    layout: Annotated[
        Layout,
        typer.Option(
            "--layout", help="bodyfit: a plain npz with all that is known of the model; smplx: what smplx.create loads."
        ),
    ] = Layout.BODYFIT,
    gender: common.GenderOption = common.Gender.NEUTRAL,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Write a body model anew: an old pickle as a clean npz, or an open body for programs that use smplx.

    Pickles are read without running anything of them. Nothing that is written needs a pickle to be read, but for the
    models that smplx itself reads from pickles only (SMPL and FLAME).

    Examples:
        bodyfit convert SMPL_NEUTRAL.pkl neutral.npz
        bodyfit convert open smpl_open.pkl --layout smplx
        bodyfit convert open-x models --layout smplx --gender female

    Exit code: 0 all went well, 2 the model cannot be read or the file not be written.
    """
    from bodyfit.body.assets import load_assets
    from bodyfit.io import save_model

    assets = load_assets(model, gender=gender.value)
    path = save_model(assets, new, layout=layout.value)
    facts = _facts(assets, path, layout)
    if as_json:
        common.say(json.dumps(common.plain(facts), indent=2))
        return common.OK
    common.say(
        f"{model}: {assets.kind.title}, {assets.gender}, {facts['vertices']} vertices, {facts['betas']} betas"
        f" -> {path} ({facts['bytes'] / 2**20:.1f} MiB)"
    )
    if facts["note"]:
        common.say(facts["note"])
    return common.OK


def _facts(assets: BodyAssets, path: Path, layout: Layout) -> dict[str, Any]:
    return {
        "source": assets.name,
        "file": path,
        "layout": layout.value,
        "model": assets.kind.title,
        "gender": assets.gender,
        "vertices": len(assets.v_template),
        "joints": len(assets.parents),
        "betas": assets.shapedirs.shape[2],
        "expression_coefficients": 0 if assets.exprdirs is None else assets.exprdirs.shape[2],
        "bytes": path.stat().st_size,
        "note": _note(assets, path) if layout is Layout.SMPLX else None,
    }


def _note(assets: BodyAssets, path: Path) -> str:
    """How smplx loads the file: it goes by the first word of the name and takes an ending for granted."""
    from bodyfit.io.model_file import smplx_class

    name = smplx_class(assets)
    if path.parent.name == name.lower() and path.stem.startswith(f"{name}_"):
        side = f", is_rhand={assets.kind.name == 'mano_right'}" if name == "MANO" else f", gender={assets.gender!r}"
        return f"smplx loads it with smplx.create({str(path.parent.parent)!r}, model_type={name.lower()!r}{side})"
    usual = "npz" if name == "SMPLX" else "pkl"
    ext = "" if name == "SMPL" or path.suffix == f".{usual}" else f", ext={path.suffix[1:]!r}"
    if path.stem.partition("_")[0].lower() == name.lower():
        call = f"smplx.create({str(path)!r}{ext})"
    else:
        call = f"smplx.{name}({str(path)!r}{ext}), or with smplx.create if its name starts with {name.lower()}_"
    held = "; smplx reads SMPL from a pickle only, so this is one" if name == "SMPL" and path.suffix == ".npz" else ""
    return f"smplx loads it with {call}{held}"
