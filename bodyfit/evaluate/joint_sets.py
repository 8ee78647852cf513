"""Define the joint sets of benchmarks by name, and load the regressor that some of them need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from bodyfit.errors import AssetError, OptionError
from bodyfit.skeleton import LAYOUTS, SMPL

__all__ = ["JOINT_SETS", "REGRESSOR_ROWS", "JointSet", "joint_set", "load_regressor"]

REGRESSOR_ROWS = (
    *("pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "spine2", "neck"),
    *("nose", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
)
"""Names of the 17 rows of the customary J_regressor_h36m.npy: the left leg first, unlike H36M's own order."""


@dataclass(frozen=True)
class JointSet:
    """The joints that a benchmark counts, in order, and further points that serve only as a root."""

    name: str
    """Name, as the command line accepts it."""
    names: tuple[str, ...]
    """The joints that count."""
    family: str
    """smpl: joints of the body model. h36m: rows of a regressor over posed vertices, or a marker system's joints.
    Points of two families are different points even where they share a name."""
    carried: tuple[str, ...] = ()
    """Further points that do not count, from which a root can be taken."""

    @property
    def points(self) -> tuple[str, ...]:
        """Names of all points: those that count, then the carried ones."""
        return self.names + self.carried

    @property
    def counted(self) -> Bool[np.ndarray, "P"]:
        """Mask of the `points` that count, for the metrics."""
        return np.arange(len(self.points)) < len(self.names)

    @property
    def regressor_rows(self) -> tuple[int, ...]:
        """Rows of an H36M regressor for `points`; empty for joints of the model itself."""
        return tuple(REGRESSOR_ROWS.index(n) for n in self.points) if self.family == "h36m" else ()

    def root(self, root: str | Sequence[str] | None) -> tuple[int, ...] | None:
        """Return the rows of `points` whose mean is the root: "pelvis", "mid_hip", or any joints; None for no root.

        The pelvis is a joint of the model (or the regressor), and "mid_hip" the midpoint of the hips: they are some
        centimetres apart, and published numbers use either. Raises `OptionError`.
        """
        if root is None:
            return None
        names = ("left_hip", "right_hip") if root == "mid_hip" else (root,) if isinstance(root, str) else tuple(root)
        missing = [name for name in names if name not in self.points]
        if missing or not names:
            raise OptionError(
                f"root {', '.join(missing) or '()'} is not in {self.name}; give mid_hip or one of "
                f"{', '.join(self.points)}"
            )
        return tuple(self.points.index(name) for name in names)

    def select(self, points: Float[np.ndarray, "*B K 3"], names: Sequence[str]) -> Float[np.ndarray, "*B P 3"]:
        """Select this set's points from named points of the same family; missing carried points are NaN.

        Raises `OptionError` where a joint that counts is missing.
        """
        missing = [name for name in self.names if name not in names]
        if missing:
            raise OptionError(f"the points lack {', '.join(missing)}, which {self.name} counts")
        selected = np.full((*points.shape[:-2], len(self.points), 3), np.nan)
        for row, name in enumerate(self.points):
            if name in names:
                selected[..., row, :] = points[..., list(names).index(name), :]
        return selected


_LSP14 = LAYOUTS["lsp14"]
_H36M17 = ("pelvis", *LAYOUTS["h36m17"][1:])

JOINT_SETS: dict[str, JointSet] = {
    entry.name: entry
    for entry in (
        JointSet("smpl24", SMPL.names, "smpl"),
        JointSet("emdb24", SMPL.names, "smpl"),
        JointSet("smpl22", SMPL.names[:22], "smpl"),
        JointSet("lsp14", _LSP14, "h36m", ("pelvis",)),
        JointSet("3dpw14", _LSP14, "h36m", ("pelvis",)),
        JointSet("h36m14", _LSP14, "h36m", ("pelvis",)),
        JointSet("h36m17", _H36M17, "h36m"),
    )
}
"""smpl24: SMPL's joints, and emdb24 the same under the name of the benchmark that counts them (Kaufmann et al. 2023).
smpl22: without the hands, which SMPL-H and SMPL-X share. lsp14: LSP's order; 3dpw14 and h36m14 are the same points,
rows 6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10 of the regressor, row 0 carried as the pelvis. h36m17: in H36M's
order, pelvis first, the right leg before the left."""


def joint_set(name: str) -> JointSet:
    """Return a joint set by its name. Raises `OptionError`."""
    if name not in JOINT_SETS:
        raise OptionError(f"joints must be one of {', '.join(JOINT_SETS)}, got {name!r}")
    return JOINT_SETS[name]


def load_regressor(path: str | Path) -> Float[np.ndarray, "17 V"]:
    """Load the user's J_regressor_h36m.npy or one like it: 17 joints from the posed vertices of SMPL.

    Raises `AssetError`, naming the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise AssetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError) as error:
        raise AssetError(f"{path}: not an .npy array: {ascii(str(error)[:120])[1:-1]}") from None
    if array.ndim != 2 or len(array) != len(REGRESSOR_ROWS) or array.dtype.kind not in "fiu":
        raise AssetError(f"{path}: expected a regressor of shape (17, V), found {array.dtype} of {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or np.abs(array.sum(1) - 1).max() > 0.02:
        raise AssetError(f"{path}: the rows of a regressor must be finite and sum to 1")
    return array
