"""Hold the edits of a person in the viewer: the state behind its sliders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from roma import rotmat_to_rotvec, rotvec_to_rotmat
from torch import Tensor

from bodyfit.app.results.find import Person
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError
from bodyfit.io import save_glb, save_obj
from bodyfit.render import person_color

__all__ = ["PersonEdits"]

_SAVERS = {".glb": save_glb, ".obj": save_obj}


class PersonEdits:
    """A person with editable shape and expression, and additional rotations of joints."""

    def __init__(self, person: Person, model: BodyModel) -> None:
        self.person, self.model = person, model
        self.visible = True
        self.joints = model.skeleton.names
        """Joints that can be rotated; fingers, jaw and eyes where the model has them."""
        self.reset()

    def reset(self) -> None:
        """Discard all edits."""
        self.betas: Float[Tensor, "S"] = self.person.result.params.betas[0].clone()
        """Betas of all frames, standard deviations."""
        expression = self.person.result.params.expression
        self.expression: Float[Tensor, "E"] | None = None if expression is None else torch.zeros_like(expression[0])
        """Offset of the expression in all frames, standard deviations; None where the model has none."""
        self.turns: Float[Tensor, "J 3"] = torch.zeros(len(self.joints), 3, dtype=self.betas.dtype)
        """Additional rotation vectors of the joints, radians, in their own axes, applied before the fit's."""

    def set_beta(self, index: int, value: float) -> None:
        """Set one beta."""
        self.betas[index] = value

    def set_expression(self, index: int, value: float) -> None:
        """Set what is added to one coefficient of the expression."""
        assert self.expression is not None  # there is no slider for it
        self.expression[index] = value

    def turn(self, joint: str, rotvec: Float[Tensor, "3"] | tuple[float, float, float]) -> None:
        """Set a joint's additional rotation vector, radians. Raises `OptionError`."""
        if joint not in self.joints:
            raise OptionError(f"joint must be one of {', '.join(self.joints)}, got {joint!r}")
        self.turns[self.joints.index(joint)] = torch.as_tensor(rotvec, dtype=self.turns.dtype)

    def row(self, frame: int) -> int | None:
        """Return the row of a frame of the clip; None where the person is absent or has no body."""
        rows = (self.person.frames == frame).nonzero()[0]
        return int(rows[0]) if len(rows) and self.person.result.status[int(rows[0])].ok else None

    def params(self, row: int) -> BodyParams:
        """Return the edited parameters of a row, batch 1, camera axes."""
        fitted = self.person.result.params.select([row])
        changed: dict[str, Tensor] = {"betas": self.betas[None].clone()}
        if self.expression is not None and fitted.expression is not None:
            changed["expression"] = fitted.expression + self.expression
        moved = self.turns.abs().amax(1) > 0  # the others keep their numbers to the last bit
        if bool(moved.any()):
            changed |= self._turned(fitted, moved)
        return BodyParams(**{**fitted, **changed})

    def _turned(self, fitted: BodyParams, moved: Bool[Tensor, "J"]) -> dict[str, Tensor]:
        """The poses of which a joint is turned; hands as angles about their mean."""
        rest = self.model.full_pose(self.model.params())[0].to(self.turns)  # zero but for the means of hands
        whole = self.model.full_pose(self.model.params(**fitted))[0].to(self.turns)
        turned = whole.clone()
        turned[moved] = rotmat_to_rotvec(rotvec_to_rotmat(whole[moved]) @ rotvec_to_rotmat(self.turns[moved]))
        changed, start = {}, 0
        for name, count in (("global_orient", 1), *self.model.kind.poses):
            rows = slice(start, start + count)
            start += count
            are_angles = fitted[name].shape[1] == 3 * count  # and not coefficients of a hand
            if bool(moved[rows].any()) or not are_angles:
                angles = fitted[name] if are_angles else (whole - rest)[rows]
                angles = angles.reshape(-1, 3).clone()
                angles[moved[rows]] = (turned - rest)[rows][moved[rows]]
                changed[name] = angles.reshape(1, -1)
        return changed

    def vertices(self, row: int) -> Float[Tensor, "V 3"]:
        """Compute the mesh of a row, camera axes, metres."""
        with torch.no_grad():
            return self.model(**self.params(row)).vertices[0]

    def mesh_file(self, row: int, suffix: str) -> bytes:
        """Return the edited mesh as the bytes of a ".glb" or ".obj" file, y up, metres. Raises `OptionError`."""
        if suffix not in _SAVERS:
            raise OptionError(f"meshes are given as {', '.join(_SAVERS)}, got {suffix!r}")
        with tempfile.TemporaryDirectory(prefix="bodyfit-") as folder:
            path = Path(folder) / f"mesh{suffix}"
            if suffix == ".glb":
                save_glb(path, self.vertices(row), self.model.faces, color=person_color(self.person.number))
            else:
                save_obj(path, self.vertices(row), self.model.faces, uv=self.model.uv, uv_faces=self.model.uv_faces)
            return path.read_bytes()
