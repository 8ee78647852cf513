"""For one joint: the flesh's equilibrium in every sampled rotation, and the linear shapes that come nearest to it."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from scripts.build.pose_shapes.elastic import Contact, Flesh
from scripts.build.pose_shapes.joints import Crease, Setup
from scripts.build.pose_shapes.lattice import build_lattice, extend

BULK = 30.0  # lambda / mu: Poisson's ratio 0.48
BONE, EDGE = 30.0, 30.0  # springs, over the mean stiffness of a node
RIDGE = 0.008
NORMAL, VOLUME = 1.0, 25.0


@dataclass(frozen=True)
class Body:
    """What the shapes are made for."""

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    mirror: np.ndarray
    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: np.ndarray

    def below(self, name: str) -> np.ndarray:
        """(V,) how much of each vertex moves with the joint."""
        side, _, part = name.partition("_")
        # The hand's joint is the small tree's: it bends the four fingers, which hold its weights.
        first = [f"{side}_{finger}1" for finger in ("index", "middle", "ring", "pinky")] if part == "hand" else [name]
        moved = {self.names.index(one) for one in (first if set(first) <= set(self.names) else [name])}
        for j, parent in enumerate(self.parents):
            if parent in moved:
                moved.add(j)
        return self.weights[:, [j for j in sorted(moved) if j < self.weights.shape[1]]].sum(1)


@dataclass(frozen=True)
class Answer:
    """The skin in every sample of one joint."""

    skin: np.ndarray
    """(S,) vertices."""
    rotations: np.ndarray
    """(K, 3, 3)"""
    blends: np.ndarray
    """(K, S, 3, 3) what skinning makes of a correction."""
    moves: np.ndarray
    """(K, S, 3) from plain skinning to the equilibrium, metres."""
    normals: np.ndarray
    """(K, S, 3) of the equilibrium, as long as the volume grows per metre of the vertex (square metres)."""
    importance: np.ndarray
    """(K,)"""


class JointFlesh:
    """The lattice of one joint with its springs and contact."""

    def __init__(self, body: Body, setup: Setup):
        self.body, self.setup = body, setup
        self.joint = body.joints[body.names.index(setup.name)]
        far = from_segment(body.vertices, *setup.axis)
        outside = _in_any(body.vertices, setup.keep_out) | self._foreign()
        skin = np.flatnonzero((far < setup.reach[1]) & ~outside & body_skin(body))
        reach = setup.reach[1] + setup.cube_m

        def keep(points: np.ndarray) -> np.ndarray:
            near = (from_segment(points, *setup.axis) < reach) & ~_in_any(points, setup.keep_out)
            if setup.foreign:
                near[near] = ~self._foreign()[cKDTree(body.vertices).query(points[near])[1]]
            return near

        self.lattice = build_lattice(body.vertices, body.faces, skin, setup.cube_m, keep)
        self.skin_share = body.below(setup.name)[skin]
        self.share = np.clip(extend(self.lattice, self.skin_share), 0.0, 1.0)
        self.relaxed = Rotation.from_rotvec(setup.relaxed, degrees=True).as_matrix()
        self.owner, pull = self._springs()
        self.contacts = [self._contact(crease) for crease in setup.creases]
        self.flesh = Flesh(self.lattice, self.skinned(self.relaxed), pull, BULK, 60.0 / setup.cube_m)

    def skinned(self, R: np.ndarray) -> np.ndarray:
        """Plain skinning of the nodes."""
        nodes = self.lattice.nodes
        return nodes + self.share[:, None] * ((nodes - self.joint) @ (R - np.eye(3)).T)

    def equilibrium(self, R: np.ndarray, start_move: np.ndarray) -> np.ndarray:
        """(N, 3) how far the nodes go from plain skinning."""
        plain = self.skinned(R)
        contact, normal, offset = None, np.zeros(3), 0.0
        bone = self.setup.axis[1] - self.setup.axis[0]
        closing = [crease.inner @ (R @ bone - bone) for crease in self.setup.creases]
        if closing and max(closing) > 0.05 * np.linalg.norm(bone):
            chosen = int(np.argmax(closing))
            contact, crease, half = self.contacts[chosen], self.setup.creases[chosen], _part(R, 0.5)
            normal = half @ crease.normal
            offset = float(normal @ (self.joint + half @ (crease.point - self.joint)))
        return self.flesh.solve(plain + start_move, self._target(R, plain), contact, normal, offset) - plain

    def _foreign(self) -> np.ndarray:
        columns = [self.body.names.index(name) for name in self.setup.foreign]
        return self.body.weights[:, columns].sum(1) > 0.5

    def _springs(self) -> tuple[np.ndarray, np.ndarray]:
        """Owner of each node (0 skinning, 1 parent, 2 child, 3 half, 4 child without ramp), stiffness of its spring."""
        nodes, setup = self.lattice.nodes, self.setup
        owner, pull = np.zeros(len(nodes), dtype=int), np.full(len(nodes), 2e-3)
        if np.isfinite(setup.core_m):
            depth = cKDTree(self.body.vertices).query(nodes)[0]
            held = (depth > setup.core_m) & (self.share < 0.15)
            owner[held], pull[held] = 1, BONE
        for bone in setup.bones:
            near = from_segment(nodes, bone.start, bone.end)
            inside = near < max(bone.radius, 0.45 * setup.cube_m)
            owner[inside], pull[inside] = {"skin": 0, "parent": 1, "child": 2, "half": 3}[bone.owner], BONE
        owner[self.share > setup.firm], pull[self.share > setup.firm] = 4, BONE
        edge = np.clip((from_segment(nodes, *setup.axis) - setup.reach[0]) / np.subtract(*setup.reach[::-1]), 0, 1)
        rim = EDGE * edge**3
        owner[rim > pull], pull = 0, np.maximum(rim, pull)
        return owner, pull * setup.cube_m

    def _contact(self, crease: Crease) -> Contact:
        skin = self.body.vertices[self.lattice.skin]
        closing = (skin - self.joint) @ crease.inner > 0.0
        rows = np.flatnonzero(closing)
        return Contact(rows, np.sign((skin[rows] - crease.point) @ crease.normal), np.full(len(rows), 2e-5))

    def _target(self, R: np.ndarray, plain: np.ndarray) -> np.ndarray:
        """Where the springs pull: each bone takes along what lay on it in the relaxed pose."""
        target, away = plain.copy(), self.skinned(self.relaxed) - self.joint
        for code in (1, 2, 3, 4):
            chosen = self.owner == code
            turn, before = (self._turns(one, code, self.lattice.nodes[chosen]) for one in (R, self.relaxed))
            target[chosen] = self.joint + np.einsum("nij,nkj,nk->ni", turn, before, away[chosen])
        return target

    def _turns(self, R: np.ndarray, code: int, points: np.ndarray) -> np.ndarray:
        """(N, 3, 3) rotations of the nodes that an owner holds."""
        if self.setup.ramp is not None and code != 4:
            return self._ramped(R, code, points)
        turn = {1: np.eye(3), 2: R, 3: _part(R, 0.5), 4: R}[code]
        return np.broadcast_to(turn, (len(points), 3, 3))

    def _ramped(self, R: np.ndarray, code: int, points: np.ndarray) -> np.ndarray:
        """Rotations whose twist about the bone grows along it."""
        start, end = self.setup.ramp
        bone = (end - start) / np.linalg.norm(end - start)
        swing, twist = swing_twist(R, bone)
        along = np.clip((points - start) @ bone / np.linalg.norm(end - start), 0, 1)
        swing = {1: np.eye(3), 2: swing, 3: _part(swing, 0.5)}[code]
        return swing @ Rotation.from_rotvec(along[:, None] * twist * bone).as_matrix()


def solve_joint(body: Body, setup: Setup) -> Answer:
    """All samples of a joint, each from the answer of the sample before that is nearest."""
    work = JointFlesh(body, setup)
    samples = sorted(setup.samples, key=lambda sample: np.linalg.norm(sample[0]))
    rotations = Rotation.from_rotvec([turn for turn, _ in samples], degrees=True)
    importance = np.array([weight for _, weight in samples])
    done: list[tuple[Rotation, np.ndarray]] = [(Rotation.identity(), np.zeros_like(work.lattice.nodes))]
    moves = []
    for rotation in rotations:
        nearest = min(done, key=lambda other: (other[0].inv() * rotation).magnitude())
        move = work.equilibrium(rotation.as_matrix(), nearest[1])
        done.append((rotation, move))
        moves.append(work.lattice.embed @ move)
    R = rotations.as_matrix()
    blends = np.eye(3) + work.skin_share[None, :, None, None] * (R - np.eye(3))[:, None]
    away = (body.vertices - work.joint) @ (R - np.eye(3)).transpose(0, 2, 1)
    posed = body.vertices + body.below(setup.name)[:, None] * away
    for k, move in enumerate(moves):
        posed[k, work.lattice.skin] += move
    normals = np.stack([area_normals(v, body.faces)[work.lattice.skin] for v in posed])
    answer = Answer(work.lattice.skin, R, blends, np.array(moves), normals, importance)
    return answer if setup.name.startswith("left") else _mirrored_too(body, answer)


def regress(body: Body, answer: Answer, rings: float, length_m: float) -> np.ndarray:
    """(S, 3, 9): shapes per entry of R - I that, skinned, come nearest to the equilibria.

    Least squares in the posed skin, vertex by vertex but for one more residual a sample: the volume, which couples the
    vertices by one rank each (Woodbury).
    """
    features, importance, pulled = _weighted(answer)
    areas = np.linalg.norm(answer.normals, axis=2)
    system = squares_of(answer)
    right = np.einsum("k,ka,ksij,ksj->sia", importance, features, pulled, answer.moves).reshape(-1, 27)
    per_entry = np.einsum("ksji,ksj,ka->ksia", answer.blends, answer.normals, features).reshape(len(features), -1, 27)
    volumes = np.einsum("ksj,ksj->k", answer.normals, answer.moves)
    stiff = VOLUME * importance * areas.shape[1] * (1 + NORMAL) / areas.sum(1) ** 2
    right += np.einsum("k,ksq,k->sq", stiff, per_entry, volumes)
    both = np.linalg.solve(system, np.concatenate([right[None], per_entry]).transpose(1, 2, 0))
    apart, spread = both[..., 0], both[..., 1:]
    small = np.diag(1 / stiff) + np.einsum("ksq,sql->kl", per_entry, spread)
    blocks = apart - spread @ np.linalg.solve(small, np.einsum("ksq,sq->k", per_entry, apart))
    return evened(body, answer.skin, blocks, rings, length_m).reshape(-1, 3, 9)


def squares_of(answer: Answer) -> np.ndarray:
    """(S, 27, 27): what changing a vertex's block costs, over all samples."""
    features, importance, pulled = _weighted(answer)
    outer = np.einsum("k,ka,kb->kab", importance, features, features)
    squares = np.einsum("ksij,ksjl->ksil", pulled, answer.blends)
    system = np.einsum("kab,ksij->siajb", outer, squares).reshape(-1, 27, 27)
    return system + RIDGE * outer.sum(0).trace() * np.eye(27)


def _weighted(answer: Answer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K, 9) features, (K,) weights that sum to one, and (K, S, 3, 3) blends, transposed, times the metric."""
    importance = answer.importance / answer.importance.sum()
    normals = answer.normals / np.maximum(np.linalg.norm(answer.normals, axis=2, keepdims=True), 1e-12)
    # What slides along the skin is hardly seen and keeps the volume: what is off along the normal weighs more.
    metric = np.eye(3) + NORMAL * np.einsum("ksi,ksj->ksij", normals, normals)
    pulled = np.einsum("ksji,ksjl->ksil", answer.blends, metric)
    return (answer.rotations - np.eye(3)).reshape(-1, 9), importance, pulled


def evened(body: Body, skin: np.ndarray, values: np.ndarray, rings: float, length_m: float) -> np.ndarray:
    """A little implicit diffusion along the skin, against the lattice's grain; nothing flows over the rim.

    Over `length_m` metres where the mesh is dense, over `rings` of vertices (squared) where it is coarse.
    """
    local = np.full(len(body.vertices), -1)
    local[skin] = np.arange(len(skin))
    faces = local[body.faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[(edges >= 0).all(1)]  # each edge inside comes once in either direction
    size = np.linalg.norm(body.vertices[skin[edges[:, 0]]] - body.vertices[skin[edges[:, 1]]], axis=1)
    count = np.maximum(np.bincount(edges[:, 0], minlength=len(skin)), 1)
    flow = (rings + (length_m / size) ** 2) / count[edges[:, 0]]
    graph = sp.coo_matrix((flow, (edges[:, 0], edges[:, 1])), shape=(len(skin),) * 2).tocsr()
    system = sp.eye(len(skin)) + sp.diags(np.asarray(graph.sum(1)).ravel()) - graph
    return splu(system.tocsc()).solve(values.reshape(len(skin), -1)).reshape(values.shape)


def _mirrored_too(body: Body, answer: Answer) -> Answer:
    """A middle joint's samples with their mirror images."""
    flip = np.diag([-1.0, 1.0, 1.0])
    local = np.full(len(body.vertices), -1)
    local[answer.skin] = np.arange(len(answer.skin))
    other = local[body.mirror[answer.skin]]
    R = np.concatenate([answer.rotations, flip @ answer.rotations @ flip])
    blends = np.concatenate([answer.blends, flip @ answer.blends[:, other] @ flip])
    moves = np.concatenate([answer.moves, answer.moves[:, other] * [-1.0, 1.0, 1.0]])
    normals = np.concatenate([answer.normals, answer.normals[:, other] * [-1.0, 1.0, 1.0]])
    return Answer(answer.skin, R, blends, moves, normals, np.tile(answer.importance, 2))


def area_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) derivative of the volume by each vertex: a third of the area around it, along the normal."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    n = len(vertices)
    return sum(np.stack([np.bincount(faces[:, k], across[:, c], n) for c in range(3)], 1) for k in range(3)) / 6


def body_skin(body: Body) -> np.ndarray:
    """(V,) the vertices of the largest component: no eyeballs."""
    n = len(body.vertices)
    edges = body.faces[:, [0, 1]], body.faces[:, [1, 2]]
    graph = sp.coo_matrix((np.ones(2 * len(body.faces)), tuple(np.concatenate(edges).T)), shape=(n, n))
    labels = sp.csgraph.connected_components(graph, directed=False)[1]
    return labels == np.bincount(labels).argmax()


def swing_twist(R: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, float]:
    """R = swing @ twist with the twist (radians) about the unit axis."""
    x, y, z, w = Rotation.from_matrix(R).as_quat()
    twist = 2 * np.arctan2(np.array([x, y, z]) @ axis, w)
    twist = (twist + np.pi) % (2 * np.pi) - np.pi
    return R @ Rotation.from_rotvec(-twist * axis).as_matrix(), float(twist)


def _part(R: np.ndarray, part: float) -> np.ndarray:
    return Rotation.from_rotvec(part * Rotation.from_matrix(R).as_rotvec()).as_matrix()


def from_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    way = end - start
    along = np.clip((points - start) @ way / max(way @ way, 1e-12), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * way, axis=1)


def _in_any(points: np.ndarray, spaces: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """On the far side of x = 0 and below a half-space's point: the other leg."""
    out = np.zeros(len(points), dtype=bool)
    for point, normal in spaces:
        out |= ((points - point) @ normal > 0) & (points[:, 1] < point[1])
    return out
