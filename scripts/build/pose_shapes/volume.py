"""The last step of the pose shapes: the volume that linear shapes still lose is given back where the skin is free.

The equilibria keep less than all of the volume (flesh yields, bones are only so near), and shapes linear in R - I less
than the equilibria. The genders share the shapes in metres, but a man's limbs lose more than a woman's. Of all changes
of the blocks that bring the volume of every sampled pose of every body into a band around its rest pose's, the smallest
is added: along the normals, near the joint, smooth, and nowhere where skin lies on skin.
"""

import numpy as np
from scipy.optimize import lsq_linear
from scipy.spatial import cKDTree

from scripts.build.pose_shapes.joints import Setup
from scripts.build.pose_shapes.measure import crossing
from scripts.build.pose_shapes.solve import Answer, Body, area_normals, evened, from_segment, squares_of

BAND = 0.38
"""How much of plain skinning's change of volume may stay."""
EXCESS = 1.0
"""How much of plain skinning's loss may be gained instead: shapes right for a large twist are too much for half of it,
and taking that away would leave a notch in the large one."""
STEPS = 3
"""The volume is cubic in the skin; each step is linear."""
SOFT = 0.01
"""Regularisation, over the mean of the system's diagonal: poses that ask for opposite things meet half way."""
TOUCH = 1.5
"""Skin that faces other skin nearer than this, in cubes of the lattice, is not pushed out."""
WIDE = 2.0
"""How far what is added is evened out along the skin, in cubes."""
ROUNDS = 4
"""How often shapes are made smaller where they push skin through skin."""


class Filler:
    """One joint of some bodies turned to its samples, skinned plainly, and the ways in which its blocks may change.

    The bodies differ in vertices and joints alone, and the first is the one that was solved for. Each of the P =
    bodies x samples is a pose.
    """

    def __init__(self, bodies: list[Body], setup: Setup, answer: Answer):
        body = bodies[0]
        self.body, self.setup, self.answer = body, setup, answer
        turns = answer.rotations - np.eye(3)
        self.features = np.tile(turns.reshape(-1, 9), (len(bodies), 1))
        self.blends = np.tile(answer.blends, (len(bodies), 1, 1, 1))
        self.soft = np.tile(SOFT * answer.importance.mean() / answer.importance, len(bodies))
        self.plain = np.concatenate([_turned(one, setup.name, turns) for one in bodies])
        self.rest_m3 = np.repeat([_volumes(one.vertices[None], body.faces)[0] for one in bodies], len(turns))
        change = _volumes(self.plain, body.faces) - self.rest_m3
        self.band = -BAND * np.abs(change), np.where(change < 0, EXCESS, BAND) * np.abs(change)
        self.places = body.vertices[answer.skin]
        area = np.linalg.norm(area_normals(body.vertices, body.faces)[answer.skin], axis=1)
        far = from_segment(self.places, *setup.axis) / setup.reach[1]
        self.near = np.clip(1 - far * far, 0, 1) ** 2 / area
        self.give = np.linalg.inv(squares_of(answer))
        self.crossed = [self._crossing(skin) for skin in self.plain]

    def fill(self, blocks: np.ndarray) -> np.ndarray:
        """(S, 3, 9) blocks that keep the volume, made smaller wherever the skin would cross itself for them."""
        part, best, least = np.ones(len(blocks)), blocks, np.inf
        for _ in range(ROUNDS):
            filled = self._volume_kept(part[:, None, None] * blocks, part)
            bad, more = self._pushed_through(filled)
            if more < least:
                best, least = filled, more
            if not more:
                break
            far = cKDTree(self.places[bad]).query(self.places)[0] / (1.5 * self.setup.cube_m)
            part *= 1 - 0.5 * np.exp(-far * far)
        return best

    def _posed(self, blocks: np.ndarray) -> np.ndarray:
        skins = self.plain.copy()
        skins[:, self.answer.skin] += np.einsum("ksij,sja,ka->ksi", self.blends, blocks, self.features)
        return skins

    def _volume_kept(self, blocks: np.ndarray, part: np.ndarray) -> np.ndarray:
        skin = self.answer.skin
        for _ in range(STEPS):
            posed = self._posed(blocks)
            change = _volumes(posed, self.body.faces) - self.rest_m3
            least, most = (bound - change for bound in self.band)
            if (least <= 0).all() and (most >= 0).all():
                break
            normals = np.stack([area_normals(one, self.body.faces) for one in posed])
            free = np.stack([self._free(v, n) for v, n in zip(posed, normals, strict=True)])
            slopes = np.einsum("ksji,ksj,ka->ksia", self.blends, normals[:, skin], self.features)
            slopes = slopes.reshape(*free.shape, 27)
            pushed = slopes * (free * self.near * part)[..., None]
            ways = np.einsum("sab,ksb->sak", self.give, pushed)
            ways = evened(self.body, skin, ways, self.setup.smooth, WIDE * self.setup.cube_m) * part[:, None, None]
            system = np.einsum("ksa,sal->kl", slopes, ways)
            system += np.diag(self.soft * system.trace() / len(system))
            blocks = blocks + (ways @ _smallest(system, least, most)).reshape(blocks.shape)
        return blocks

    def _free(self, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """(S,) 0.0 where skin that faces the other way is near, else 1.0."""
        units = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        skin = self.answer.skin
        pairs = cKDTree(vertices).query_ball_point(vertices[skin], TOUCH * self.setup.cube_m)
        return np.array([float((units[near] @ units[v] > -0.3).all()) for v, near in zip(skin, pairs, strict=True)])

    def _crossing(self, vertices: np.ndarray) -> np.ndarray:
        """(F,) which faces around the joint's skin cross another."""
        moved = vertices[self.answer.skin]
        inside = ((vertices > moved.min(0) - 0.01) & (vertices < moved.max(0) + 0.01)).all(1)
        near = inside[self.body.faces].any(1)
        found = np.zeros(len(near), dtype=bool)
        found[near] = crossing(vertices, self.body.faces[near])
        return found

    def _pushed_through(self, blocks: np.ndarray) -> tuple[np.ndarray, int]:
        """(S,) vertices of faces that cross only with the shapes, in poses where more do; how many more."""
        bad, more = np.zeros(len(self.body.vertices), dtype=bool), 0
        for posed, before in zip(self._posed(blocks), self.crossed, strict=True):
            now = self._crossing(posed)
            if now.sum() > before.sum():
                bad[self.body.faces[now & ~before]] = True
                more += int(now.sum() - before.sum())
        return bad[self.answer.skin], more


def _volumes(skins: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(K,) cubic metres."""
    a, b, c = (skins[:, faces[:, k]] for k in range(3))
    return (a * np.cross(b, c)).sum((1, 2)) / 6


def _turned(body: Body, name: str, turns: np.ndarray) -> np.ndarray:
    """(K, V, 3) plain skinning of one joint's R - I, (K, 3, 3)."""
    away = body.vertices - body.joints[body.names.index(name)]
    return body.vertices + body.below(name)[:, None] * (away @ turns.transpose(0, 2, 1))


def _smallest(system: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """(P,) x with `system` @ x between the bounds and x' `system` x, what the change costs, least."""
    values, vectors = np.linalg.eigh(0.5 * (system + system.T))  # the smoothing made it a little uneven
    whitened = vectors.T / np.sqrt(np.maximum(values, 1e-4 * values[-1]))[:, None]
    scale = np.abs([least, most]).max()
    change = lsq_linear(whitened, np.zeros(len(system)), (least / scale, most / scale), method="bvls").x * scale
    return np.linalg.solve(system, change)
