"""Binds a piece to the open body: a template and shape directions of its own, skinning weights, anchors on the skin.

The piece is made on each sampled person in MakeHuman's rest pose, brought into the T-pose by the inverse blend that the
body's build uses, and its vertices are regressed on the betas of that person's skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.spatial import cKDTree

from scripts.build.appearance.people import Population, World, load_body, normalised
from scripts.build.appearance.pieces import BASE_VERTICES, Proxy
from scripts.build.open_body.tree import EYEBALLS, EYES, TREE_JOINTS

GENDERS = ("neutral", "male", "female")
BETAS = 10
_RIDGE = 1e-3
"""Of the regression on standard normal betas, per person."""
MOST_JOINTS = 6
_FADE_M = (0.02, 0.06)
"""From the skin: up to the first a vertex has the skin's pose shapes wholly, from the second on not at all."""


@dataclass(frozen=True)
class Shapes:
    """The bodies that pieces are regressed on."""

    populations: dict[str, tuple[Population, ...]]
    """of each gender"""
    betas: dict[str, np.ndarray]
    """(S, 10) of each gender's people"""
    origins: dict[str, np.ndarray]
    """(S, 3) where the open body's origin is for each, metres"""
    errors_m: dict[str, float]
    """mean distance of the people's skin from that of their betas"""


@dataclass(frozen=True)
class Anchors:
    """The base mesh's vertices as means of the open body's skin."""

    rows: scipy.sparse.csr_matrix
    """(`BASE_VERTICES`, V)"""
    weights: np.ndarray
    """(V, 55) the body's skinning weights"""
    skin: np.ndarray
    """(V, 3) the neutral body's mean skin"""


def find_betas(world: World, populations: dict[str, Population], body: Path) -> Shapes:
    """Find each person's betas and origin by least squares on the skin in the T-pose."""
    skins = {gender: one.unposed(one.base[:, world.skin], world.source.weights) for gender, one in populations.items()}
    groups = {"neutral": ("male", "female"), "male": ("male",), "female": ("female",)}
    betas, origins, errors = {}, {}, {}
    for gender, members in groups.items():
        skin = np.concatenate([skins[m] for m in members])
        template, shapedirs = load_body(body, gender)
        system = np.concatenate([shapedirs.reshape(-1, BETAS), np.tile(np.eye(3), (len(template), 1))], 1)
        goal = (skin - template).reshape(len(skin), -1).T
        found = np.linalg.solve(system.T @ system, system.T @ goal)
        betas[gender], origins[gender] = found[:BETAS].T, found[BETAS:].T
        left = (system @ found - goal).T.reshape(skin.shape)
        errors[gender] = float(np.linalg.norm(left, axis=-1).mean())
    people = {gender: tuple(populations[m] for m in members) for gender, members in groups.items()}
    return Shapes(people, betas, origins, errors)


def regress(
    proxy: Proxy, carried_by: scipy.sparse.csr_matrix, world: World, shapes: Shapes
) -> tuple[np.ndarray, np.ndarray, float]:
    """Template (3, P, 3) and shape directions (3, P, 3, 10) for the genders; the mean error, metres."""
    bones = normalised(carried_by @ world.bone_weights)
    unposed = {id(p): p.unposed(proxy.on(p.base), bones) for p in shapes.populations["neutral"]}
    templates, directions, errors = [], [], []
    for gender in GENDERS:
        points = np.concatenate([unposed[id(p)] for p in shapes.populations[gender]])
        points = points - shapes.origins[gender][:, None]
        betas = shapes.betas[gender]
        system = np.concatenate([np.ones((len(betas), 1)), betas], 1)
        ridge = _RIDGE * len(betas) * np.diag([0.0] + [1.0] * BETAS)
        found = np.linalg.solve(system.T @ system + ridge, system.T @ points.reshape(len(points), -1))
        errors.append(np.linalg.norm((system @ found).reshape(points.shape) - points, axis=-1).mean())
        templates.append(found[0].reshape(-1, 3))
        directions.append(found[1:].reshape(BETAS, -1, 3).transpose(1, 2, 0))
    return np.stack(templates), np.stack(directions), float(np.mean(errors))


def carriers(proxy: Proxy, world: World, shapes: Shapes) -> scipy.sparse.csr_matrix:
    """(P, `BASE_VERTICES`) the shares of the base mesh's vertices that a vertex of the piece goes with.

    These are its references. Those of shoes are a few vertices from the toes to the calf, which tell place and size but
    not what moves with the shoe: shoes go with the skin that is nearest at rest.
    """
    if proxy.source.kind == "shoes":
        base = np.mean([people.base.mean(0) for people in shapes.populations["neutral"]], 0)
        outer = world.skin[world.skin < EYEBALLS]
        distance, near = cKDTree(base[outer]).query(proxy.on(base[None])[0], k=3)
        shares, carrying = 1 / np.maximum(distance, 1e-3), outer[near]
    else:
        shares, carrying = proxy.shares, proxy.references
    rows = np.repeat(np.arange(len(carrying)), 3)
    matrix = scipy.sparse.csr_matrix((shares.ravel(), (rows, carrying.ravel())), shape=(len(carrying), BASE_VERTICES))
    return normalised(matrix)


def find_anchors(world: World, shapes: Shapes, body: Path) -> Anchors:
    """Anchor each vertex of the base mesh: the skin's to itself, a helper's to the three nearest of the skin."""
    with np.load(body / "open.npz") as shared:
        weights = shared["weights"].astype(np.float64)[:, : len(TREE_JOINTS)]
    skin = load_body(body, "neutral")[0]
    means = []
    for people in shapes.populations["neutral"]:
        mean = people.base.mean(0, keepdims=True)
        average = Population(mean, people.turns[:1], people.heads.mean(0)[None], people.posed_heads.mean(0)[None])
        means.append(average.unposed(mean, world.bone_weights)[0])
    base = np.mean(means, 0)
    base += (skin - base[world.skin]).mean(0)
    eyeball = world.skin >= EYEBALLS
    outer = np.flatnonzero(~eyeball)
    distance, near = cKDTree(skin[outer]).query(base, k=3)
    share = 1 / np.maximum(distance, 1e-3)
    share /= share.sum(1, keepdims=True)
    near = outer[near]
    own = world.skin
    near[own], share[own] = np.arange(len(own))[:, None], [1.0, 0.0, 0.0]
    rows = np.repeat(np.arange(BASE_VERTICES), 3)
    matrix = scipy.sparse.csr_matrix((share.ravel(), (rows, near.ravel())), shape=(BASE_VERTICES, len(skin)))
    return Anchors(matrix, weights, skin)


def anchor_rows(
    carried_by: scipy.sparse.csr_matrix, anchors: Anchors, template: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three skin vertices (P, 3) that move a vertex most, their shares (P, 3), and skinning weights (P, 55).

    Shares fade with the distance from the skin, for a hem that hangs free has none of the skin's pose shapes; the
    weights do not.
    """
    mix = (carried_by @ anchors.rows).toarray()
    weights = mix @ anchors.weights
    near = np.argsort(-mix, 1, kind="stable")[:, :3]
    share = np.take_along_axis(mix, near, 1)
    share /= share.sum(1, keepdims=True)
    away = cKDTree(anchors.skin).query(template)[0]
    share *= np.clip((_FADE_M[1] - away) / (_FADE_M[1] - _FADE_M[0]), 0, 1)[:, None]
    return near, share, weights / weights.sum(1, keepdims=True)


def eye_weights(template: np.ndarray) -> np.ndarray:
    """(P, 55): each eyeball goes with its eye."""
    weights = np.zeros((len(template), len(TREE_JOINTS)))
    for name, side in zip(EYES, (template[:, 0] > 0, template[:, 0] <= 0), strict=True):
        weights[side, TREE_JOINTS.index(name)] = 1.0
    return weights
