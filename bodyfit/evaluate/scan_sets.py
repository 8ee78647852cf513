"""Scans of CAPE and 4D-Dress with the bodies under them: the files as users have them, none of them executed.

CAPE (Ma et al. 2020): `raw_scans/SUBJECT/SEQUENCE/SEQUENCE.NNNNNN.ply` in millimetres, a separate download;
`sequences/SUBJECT/SEQUENCE/SEQUENCE.NNNNNN.npz` with `pose` (72) and `transl` (3) of SMPL, metres;
`minimal_body_shape/SUBJECT/SUBJECT_minimal.npy`, the subject without clothes in the T-pose, in place of shape
coefficients; `misc/subj_genders.pkl`. 4D-Dress (Wang et al. 2024): `SUBJECT/OUTFIT/TAKE/Meshes_pkl/mesh-fNNNNN.pkl`
with `vertices`, `faces` and `colors`, metres, and `SMPL/mesh-fNNNNN_smpl.ply` and `.pkl`, the body's mesh and
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from bodyfit.body.assets import load_assets
from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel
from bodyfit.body.record import BodyAssets
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.part_sets import mesh_vertices
from bodyfit.evaluate.sequence import array
from bodyfit.io.scans.load import Scan, load_scan
from bodyfit.skeleton import SMPL

__all__ = ["SCAN_SETS", "Cape", "FourDDress", "ScanSet", "ScannedPerson"]

_SAME_MESH_M = 0.002
"""Largest mean distance between a mesh of 4D-Dress and its own parameters' body."""
_APART_M = 0.15
"""Median distance of a body's vertices from its scan from which on they are in different axes."""
_FEWEST_POINTS = 100
_GENDERS = ("neutral", "female", "male")


@dataclass(frozen=True)
class ScannedPerson:
    """A scan, and the body under it in the scan's axes."""

    scan: Scan
    unit: str
    """Unit of the scan's points: m or mm."""
    vertices: Float[np.ndarray, "V 3"]
    """Vertices of the SMPL body under the clothes, metres."""
    joints: Float[np.ndarray, "24 3"]
    """Its joints, metres."""
    faces: Int[np.ndarray, "F 3"]
    """Its triangles, by which a body of the same vertices is recognised."""


class ScanSet(Protocol):
    """A data set of scans; made from its folder and the source of the SMPL bodies that it is annotated with."""

    frames: tuple[Path, ...]
    """Files of the scans that have a body."""

    def read(self, scan: Path) -> ScannedPerson:
        """Read one of the `frames`. Raises `AssetError` and `ScanError`, naming the file."""
        ...


class Cape:
    """CAPE's raw scans; the folder holds raw_scans, sequences, minimal_body_shape and misc (cape_release).

    source: SMPL of both genders, as for `load_model`. Raises `AssetError`.
    """

    def __init__(self, folder: str | Path, source: str | Path) -> None:
        folder = Path(folder)
        self.root = folder / "cape_release" if (folder / "cape_release").is_dir() else folder
        scans = sorted((self.root / "raw_scans").glob("*/*/*.ply"))
        if not scans:
            raise AssetError(f"{self.root}: no raw_scans/SUBJECT/SEQUENCE/*.ply of CAPE; they are a separate download")
        self.frames = tuple(scan for scan in scans if self._truth(scan).is_file())
        if not self.frames:
            raise AssetError(f"{self._truth(scans[0])}: no such file, nor that of any other of {len(scans)} scans")
        self._genders = read_archive(self.root / "misc" / "subj_genders.pkl")
        self._assets = cache(lambda gender: _smpl(source, gender))
        for subject in sorted({scan.parent.parent.name for scan in self.frames}):
            self._assets(self._gender(subject))  # a missing model is told before the work
        self._model = lru_cache(maxsize=1)(self._subject)

    def _truth(self, scan: Path) -> Path:
        return self.root / "sequences" / scan.parent.parent.name / scan.parent.name / f"{scan.stem}.npz"

    def _gender(self, subject: str) -> str:
        """Return the gender of a subject's body. Raises `AssetError`."""
        gender = str(self._genders.get(subject))
        if gender not in ("female", "male"):
            path = self.root / "misc" / "subj_genders.pkl"
            raise AssetError(f"{path}: {subject} is {ascii(gender)[:20]}, expected female or male")
        return gender

    def _subject(self, subject: str) -> BodyModel:
        """Make a body whose T-pose is the subject without clothes. Raises `AssetError` and `OptionError`."""
        assets = self._assets(self._gender(subject))
        path = self.root / "minimal_body_shape" / subject / f"{subject}_minimal.npy"
        try:
            minimal = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise AssetError(f"{path}: no array of the body without clothes ({error})") from None
        minimal = array(path, "the body without clothes", minimal, assets.v_template.shape)
        return BodyModel(replace(assets, v_template=minimal), num_betas=0, dtype=torch.float64)

    def read(self, scan: Path) -> ScannedPerson:
        """Read a scan, and pose the subject's body without clothes. Raises `AssetError` and `ScanError`."""
        path = self._truth(scan)
        values = read_archive(path)
        parts = {name: _vector(path, values, name, width) for name, width in (("pose", 72), ("transl", 3))}
        pose = parts["pose"]
        model = self._model(scan.parent.parent.name)
        vertices, joints = _posed(model, global_orient=pose[:3], body_pose=pose[3:], transl=parts["transl"])
        return _together(scan, ScannedPerson(load_scan(scan), "mm", vertices, joints, model.faces.numpy()))


class FourDDress:
    """4D-Dress's scans; the folder is the whole, or that of a subject, an outfit or a take.

    source: SMPL of both genders, as for `load_model`. Raises `AssetError`.
    """

    def __init__(self, folder: str | Path, source: str | Path) -> None:
        scans = sorted(Path(folder).rglob("Meshes_pkl/mesh-f*.pkl"))
        if not scans:
            raise AssetError(f"{folder}: no Meshes_pkl/mesh-fNNNNN.pkl of 4D-Dress in this folder")
        self.frames = tuple(scan for scan in scans if self._truth(scan, "pkl").is_file())
        if not self.frames:
            raise AssetError(
                f"{self._truth(scans[0], 'pkl')}: no such file, nor that of any other of {len(scans)} scans"
            )
        self._bodies = _bodies(source)
        self._gender: dict[Path, str] = {}

    @staticmethod
    def _truth(scan: Path, suffix: str) -> Path:
        return scan.parent.parent / "SMPL" / f"{scan.stem}_smpl.{suffix}"

    def read(self, scan: Path) -> ScannedPerson:
        """Read a scan, and pose its body; its gender is that of the body that is the file's mesh.

        Raises `AssetError`, naming the file, and `OptionError`.
        """
        path = self._truth(scan, "pkl")
        values = read_archive(path)
        widths = {"global_orient": 3, "body_pose": 69, "transl": 3, "betas": 10}
        params = {name: _vector(path, values, name, width) for name, width in widths.items()}
        take, off = scan.parent.parent, np.inf
        for gender in (self._gender[take],) if take in self._gender else self._bodies:
            model = self._bodies[gender]
            vertices, joints = _posed(model, **params)
            mesh = mesh_vertices(self._truth(scan, "ply"), len(vertices))
            off = min(off, float(np.linalg.norm(mesh - vertices, axis=1).mean()))
            if off < _SAME_MESH_M:
                self._gender[take] = gender
                return _together(scan, ScannedPerson(_pickled(scan), "m", mesh, joints, model.faces.numpy()))
        raise AssetError(
            f"{self._truth(scan, 'ply')}: {1000 * off:.0f} mm from the SMPL body of its parameters, of any gender;"
            " give SMPL's folder with files of all genders"
        )


def _smpl(source: str | Path, gender: str) -> BodyAssets:
    """Load an SMPL body. Raises `AssetError` and `OptionError`."""
    assets = load_assets(source, gender=gender)
    if assets.kind.skeleton.names != SMPL.names:
        raise OptionError(f"the bodies of this data set are SMPL's, and {source} is {assets.kind.title}; give SMPL")
    if assets.gender != gender:
        raise OptionError(f"a {gender} SMPL body is needed, and {source} is {assets.gender}; give the folder of both")
    return assets


def _bodies(source: str | Path) -> dict[str, BodyModel]:
    """Load the SMPL bodies that there are, by gender. Raises `AssetError` and `OptionError` if there is none."""
    bodies: dict[str, BodyModel] = {}
    fault: AssetError | OptionError | None = None
    for gender in _GENDERS:
        try:
            bodies[gender] = BodyModel(_smpl(source, gender), dtype=torch.float64)
        except (AssetError, OptionError) as error:  # noqa: PERF203 (one gender is enough where it is the data set's)
            fault = fault or error
    if not bodies and fault is not None:
        raise fault
    return bodies


def _vector(path: Path, values: dict[str, Any], name: str, width: int) -> np.ndarray:
    """Return a vector of a file. Raises `AssetError`."""
    if name not in values:
        raise AssetError(f"{path}: has no {name}; fetch the data set again")
    numbers = np.ravel(array(path, name, values[name], None))
    if numbers.shape != (width,) or not np.isfinite(numbers).all():
        raise AssetError(f"{path}: {name} must be {width} finite numbers, got {numbers.shape}")
    return numbers


def _posed(model: BodyModel, **params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute vertices and joints of one posed body, metres."""
    values = {name: torch.from_numpy(value)[None] for name, value in params.items()}
    if "betas" in values:
        values["betas"] = values["betas"][:, : model.num_betas]
    with torch.no_grad():
        out = model(**model.params(**values))
    return out.vertices[0].numpy(), out.joints[0].numpy()


def _pickled(path: Path) -> Scan:
    """Read a mesh of 4D-Dress. Raises `AssetError`, naming the file."""
    values = read_archive(path)
    if not {"vertices", "faces"} <= values.keys():
        raise AssetError(f"{path}: no mesh of 4D-Dress, which has vertices and faces")
    points = array(path, "vertices", values["vertices"], (None, 3))
    faces = array(path, "faces", values["faces"], (None, 3)).astype(np.int64)
    if not len(faces) or faces.min() < 0 or faces.max() >= len(points):
        raise AssetError(f"{path}: faces must name some of the {len(points)} vertices")
    colors = None if values.get("colors") is None else array(path, "colors", values["colors"], (len(points), None))
    return Scan(points, None, faces, None if colors is None else np.clip(colors[:, :3] / 255, 0, 1))


def _together(path: Path, person: ScannedPerson) -> ScannedPerson:
    """Return a person whose scan and body are in the same place. Raises `AssetError`."""
    points = person.scan.points[np.isfinite(person.scan.points).all(1)] * {"m": 1.0, "mm": 0.001}[person.unit]
    if len(points) < _FEWEST_POINTS:
        raise AssetError(f"{path}: {len(points)} points are no scan of a person; fetch the data set again")
    off = float(np.median(KDTree(points).query(person.vertices)[0]))
    if not off < _APART_M:
        raise AssetError(f"{path}: the scan and the body under it are {off:.2f} m apart; are both files untouched?")
    return person


SCAN_SETS: dict[str, Callable[[str | Path, str | Path], ScanSet]] = {"cape": Cape, "4d-dress": FourDDress}
"""Data sets of scans by the words of the command line."""
