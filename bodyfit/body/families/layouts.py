"""Detect a file's model family and gender from its content; its name decides only where the content does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bodyfit.body.families.kinds import FAMILIES, ModelFamily
from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.record import GENDERS

__all__ = ["family_of", "gender_hint", "gender_of"]

_TREES = "SMPL 24, SMPL-H 52, SMPL-X 55, MANO 16, FLAME 5"
_ROOT = 1 << 31
"""Least parent index that means none: files have the root's as 2**32 - 1, which is -1 as an unsigned integer."""


def family_of(file: FileArrays) -> ModelFamily:
    """Detect the family by the kinematic tree, STAR by its pose features, MANO's side by the fingers' direction.

    Raises `AssetError`.
    """
    parents = _parents(file)
    families = [family for family in FAMILIES.values() if family.skeleton.parents == parents]
    if not families:
        file.fail(f"a kinematic tree of {len(parents)} joints that is none of {_TREES}")
    if len(families) > 1 and (stated := file.text("bodyfit_model")) in {family.name for family in families}:
        return FAMILIES[str(stated)]
    if families[0].name.startswith("mano"):
        return FAMILIES[f"mano_{_mano_side(file, len(parents))}"]
    if families[0].name == "smpl" and file.shape("posedirs")[-1:] == (93,):
        return FAMILIES["star"]
    return families[0]


def _parents(file: FileArrays) -> tuple[int, ...]:
    """Return row 0 of kintree_table, checked to be a tree; -1 for the root. Raises `AssetError`."""
    table = file.shape("kintree_table")
    if len(table) != 2 or table[0] != 2 or not 0 < table[1] <= 1000:
        file.fail(f"kintree_table must be (2, J), a row of parents and a row of joints; got {table}")
    row = file.numbers("kintree_table", (2, None))[0]
    parents = tuple(-1 if p < 0 or p >= _ROOT else int(p) for p in row)
    roots = [joint for joint, parent in enumerate(parents) if parent < 0]
    if (row != np.rint(row)).any() or max(parents) >= len(parents):
        file.fail(f"kintree_table must name joints 0 to {len(parents) - 1} as parents")
    if len(roots) > 1:
        file.fail(f"kintree_table has {len(roots)} roots, joints {_few(roots)}, and not one")
    if cycle := _cycle(parents):
        file.fail(f"kintree_table has a cycle: joints {' -> '.join(map(str, cycle))}")
    late = [joint for joint, parent in enumerate(parents) if parent > joint]
    if late:
        file.fail(f"kintree_table has parents after their children: those of joints {_few(late)}; reorder the joints")
    return parents


def _cycle(parents: tuple[int, ...]) -> list[int]:
    """Return a cycle of joints, the first again at the end; empty where there is none."""
    for start in range(len(parents)):
        chain = [start]
        while (parent := parents[chain[-1]]) >= 0:
            if parent in chain:
                return [*chain[chain.index(parent) :], parent]
            chain.append(parent)
    return []


def _few(joints: list[int]) -> str:
    """List at most five joints, for errors."""
    return ", ".join(map(str, joints[:5])) + (", ..." if len(joints) > 5 else "")


def _mano_side(file: FileArrays, n_j: int) -> str:
    """Tell left from right: in the T-pose x points to the body's left, so the fingers' direction decides."""
    template = file.numbers("v_template", (None, 3))
    joints = file.numbers("J_regressor", (n_j, len(template)), "MANO") @ template
    reach = joints[1:] - joints[0]
    along, length = reach[:, 0].mean(), np.linalg.norm(reach, axis=1).mean()
    if abs(along) > 0.5 * length:
        return "left" if along > 0 else "right"
    words = _words(file.path.stem)
    sides = [side for side in ("left", "right") if side in words]
    if len(sides) != 1:
        file.fail("a MANO hand turned so that its side cannot be told; name the file MANO_LEFT or MANO_RIGHT")
    return sides[0]


def gender_of(file: FileArrays, default: str) -> str:
    """Return the gender that the file says, else its name, else the default."""
    stated = (file.text("gender") or "").lower()
    return stated if stated in GENDERS else gender_hint(file.path) or default


def gender_hint(path: Path) -> str | None:
    """Return the gender in a file's name (SMPL_FEMALE.pkl, basicModel_f_lbs.pkl) or its folder's (male/model.npz)."""
    for words in (_words(path.stem), _words(path.parent.name)[:1] if path.stem == "model" else []):
        if words[:1] == ["basicmodel"] and words[1:2] in (["f"], ["m"], ["neutral"]):
            return {"f": "female", "m": "male"}.get(words[1], "neutral")
        genders = [gender for gender in GENDERS if gender in words]
        if len(genders) == 1:
            return genders[0]
    return None


def _words(name: str) -> list[str]:
    """Split a name into lower-case words."""
    return re.findall("[a-z]+", name.lower())
