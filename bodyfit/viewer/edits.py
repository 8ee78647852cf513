"""What a viewer has changed about a person: the state behind its sliders, without the sliders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
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
    """A person of a picture or a clip with a shape that may be set and joints that may be turned further."""

    def __init__(self, person: Person, model: BodyModel) -> None:
        self.person, self.model = person, model
        self.visible = True
        self.joints = model.skeleton.names[: max(model.body_joints, 1)]
        """The joints that can be turned: the body's; of a hand or a head the root."""
        self.reset()

    def reset(self) -> None:
        """Back to the fit."""
        self.betas: Float[Tensor, "S"] = self.person.result.params.betas[0].clone()
        """Shape, standard deviations, in every frame."""
        self.turns: Float[Tensor, "J 3"] = torch.zeros(len(self.joints), 3, dtype=self.betas.dtype)
        """Rotation vectors in radians by which joints are turned, in their own axes, before what the fit says."""

    def set_beta(self, index: int, value: float) -> None:
        """Set one coefficient of the shape."""
        self.betas[index] = value

    def turn(self, joint: str, rotvec: Float[Tensor, "3"] | tuple[float, float, float]) -> None:
        """Turn a joint by a rotation vector in radians from where the fit has it. Raises `OptionError`."""
        if joint not in self.joints:
            raise OptionError(f"joint must be one of {', '.join(self.joints)}, got {joint!r}")
        self.turns[self.joints.index(joint)] = torch.as_tensor(rotvec, dtype=self.turns.dtype)

    def row(self, frame: int) -> int | None:
        """The row of the result that a frame of the clip is; None where the person is not in it or has no body."""
        rows = (self.person.frames == frame).nonzero()[0]
        return int(rows[0]) if len(rows) and self.person.result.status[int(rows[0])].ok else None

    def params(self, row: int) -> BodyParams:
        """Parameters of a row with what was changed, batch 1, camera axes."""
        fitted = dict(self.person.result.params.select([row]))
        pose = torch.cat([fitted["global_orient"], fitted["body_pose"]], 1).view(-1, 3)[: len(self.joints)].clone()
        moved = self.turns.abs().amax(1) > 0  # the others keep their numbers to the last bit
        turned = rotvec_to_rotmat(pose[moved]) @ rotvec_to_rotmat(self.turns[moved])
        pose[moved] = rotmat_to_rotvec(turned)
        changed = {"betas": self.betas[None].clone(), "global_orient": pose[:1]}
        if len(pose) > 1:
            changed["body_pose"] = pose[1:].reshape(1, -1)
        return BodyParams(**{**fitted, **changed})

    def vertices(self, row: int) -> Float[Tensor, "V 3"]:
        """The mesh of a row, camera axes, metres."""
        with torch.no_grad():
            return self.model(**self.params(row)).vertices[0]

    def mesh_file(self, row: int, suffix: str) -> bytes:
        """The mesh as it stands as the bytes of a file: ".glb" or ".obj", y up, metres."""
        if suffix not in _SAVERS:
            raise OptionError(f"meshes are given as {', '.join(_SAVERS)}, got {suffix!r}")
        with tempfile.TemporaryDirectory(prefix="bodyfit-") as folder:
            path = Path(folder) / f"mesh{suffix}"
            if suffix == ".glb":
                save_glb(path, self.vertices(row), self.model.faces, color=person_color(self.person.number))
            else:
                save_obj(path, self.vertices(row), self.model.faces, uv=self.model.uv, uv_faces=self.model.uv_faces)
            return path.read_bytes()
