"""Pictures of people whose bodies are known, some easy and some cruel, for the calibration of a fit's quality.

A picture is made of its seed alone: bodies of random shape in poses of motion clips, in painted clothes or bare, before
a camera of random lens and tilt, in front of a made-up room or street, behind boxes and each other, dark or blurred.
The `kind` of a picture says what is hard about it.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import roma
import torch

import bodyfit
from bodyfit import render
from bodyfit.geometry.camera import Camera
from scripts.bench.inputs.quality_covers import WORDS, bent_back, covers, hidden, is_bent_back, seated
from scripts.build.pose_prior import canonical, read_clip

KINDS = (
    *("whole", "tilted", "odd", "half", "head", "face", "legs", "cut", "boxed", "crowd", "far", "dark"),
    *("seated", "behind", "bent", "empty"),
)
"""whole: one person, all in the picture. tilted: seen from above or below, rolled. odd: any way up. half, head, face,
legs: what the picture shows. cut: a border through the person. boxed: a box before them. crowd: two to four who hide
each other. far: 30 to 80 px high. dark: little light, noise, blur. seated: on a chair, behind a desk, in a wheelchair.
behind: a balloon or a wall before half of the body. bent: backwards. empty: nobody, whatever is found is a ghost."""
NATURAL = {
    **{"whole": 0.40, "half": 0.20, "head": 0.08, "face": 0.02, "legs": 0.01, "cut": 0.06, "boxed": 0.08},
    **{"crowd": 0.08, "far": 0.03, "dark": 0.02, "tilted": 0.015, "odd": 0.005},
}
"""How often each is taken to occur among pictures that people have: a guess, to weigh the kinds by."""
EVERYDAY = {
    "reactidle": 0.3,
    "walk|step": 0.25,
    "run|jog": 0.1,
    "sit": 0.1,
    "drink|wash|mop|traffic|laugh|bend": 0.15,
    "": 0.1,
}
"""How often people do what, by words in the names of clips: also a guess."""
_ARMS = ("collar", "shoulder", "elbow", "wrist", "hand")
_LEGS = ("knee", "ankle", "foot")
_SHOWN = {
    "half": ("head", "neck", *_ARMS, "spine", "hip", "pelvis"),
    "head": ("head", "neck", "collar", "shoulder"),
    "face": ("head",),
    "legs": ("hip", *_LEGS),
}
_FILL = {"half": (0.7, 1.0), "head": (0.6, 1.0), "face": (0.7, 1.3), "legs": (0.7, 1.0), "far": (0.05, 0.14)}


@dataclass(frozen=True)
class Motion:
    """Poses of one clip."""

    name: str
    """Its file."""
    pose: np.ndarray
    """(T, 23, 3) rotation vectors of the body's joints."""
    root: np.ndarray
    """(T, 3) of the root, y up."""


def everyday(rng: np.random.Generator, motions: list[Motion]) -> tuple[str, list[Motion]]:
    """A kind of picture and the clips that the poses of its people come from, as often as people have them."""
    kind = rng.choice(list(NATURAL), p=np.array(list(NATURAL.values())) / sum(NATURAL.values()))
    words = rng.choice(list(EVERYDAY), p=list(EVERYDAY.values()))
    return str(kind), [m for m in motions if re.search(words, m.name)] or motions


def read_motions(folders: list[Path]) -> list[Motion]:
    """All clips of some folders, ten poses a second."""
    motions = []
    for folder in folders:
        for path in sorted(folder.rglob("*.npz")):
            pose = read_clip(path, 1e9).pose
            with np.load(path, allow_pickle=False) as data:
                root = canonical(np.asarray(data["poses"], np.float64)[:, :3])[-len(pose) :]
            motions.append(Motion(path.name, pose[::3], root[::3]))
    return motions


def is_held_out(name: str) -> bool:
    """Whether a clip's people are for judging alone; pieces of one recording (_a, _b) stay together."""
    stem = Path(name).stem
    stem = stem[:-2] if stem[-2:-1] == "_" and stem[-1].isalpha() else stem
    return zlib.crc32(stem.encode()) % 2 == 1


@dataclass(frozen=True)
class Picture:
    """A picture and the truth about it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    focal_px: float
    """Of the camera that made it."""
    joints: np.ndarray
    """(P, 24, 3) of its people, camera axes, metres."""
    visible: np.ndarray
    """(P, 24) whether a joint lies in the picture with no box and nobody else before it."""
    betas: np.ndarray
    """(P, 10)."""


class Studio:
    """Makes pictures from seeds."""

    def __init__(self, motions: list[Motion], skins: Path | None) -> None:
        self.model = bodyfit.load_model()
        self.motions = motions
        self.skins = [] if skins is None else sorted([*skins.rglob("*.png"), *skins.rglob("*.jpg")])
        self.part = self.model.weights.argmax(1).numpy()
        names = self.model.skeleton.names
        self.names = names[:24]
        assert self.model.uv is not None
        assert self.model.uv_faces is not None
        self.uv = np.asarray(self.model.uv), np.asarray(self.model.uv_faces)
        self._wardrobe = self._regions()

    def _regions(self) -> dict[str, np.ndarray]:
        """Masks in texture space, 512 x 512, of what trousers, a shirt, sleeves, shoes cover."""
        uv, uv_faces = self.uv
        faces = self.model.faces.numpy()
        corners = np.stack([uv[..., 0] * 511, (1 - uv[..., 1]) * 511], -1)[uv_faces]
        of = self.part[faces[:, 0]]
        regions = {
            "trousers": ("pelvis", "hip", "knee"),
            "shorts": ("pelvis", "hip"),
            "shirt": ("spine", "collar", "shoulder"),
            "sleeves": ("elbow",),
            "shoes": ("ankle", "foot"),
            "hair": (),
        }
        masks = {}
        for region, parts in regions.items():
            rows = [i for i, n in enumerate(self.names) if any(p in n for p in parts)]
            chosen = np.isin(of, rows)
            if region == "hair":
                rest = self.model.v_template.numpy()
                head = np.isin(self.part, [self.names.index("head")])
                top = rest[head, 1].max()
                high = head & ((rest[:, 1] > top - 0.07) | ((rest[:, 2] < 0.02) & (rest[:, 1] > top - 0.2)))
                chosen = high[faces].all(1)
            mask = np.zeros((512, 512), np.uint8)
            cv2.fillPoly(mask, [t.round().astype(np.int32) for t in corners[chosen]], 255)
            masks[region] = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0
        return masks

    def _paint(self, rng: np.random.Generator) -> render.Texture:
        """A skin, most often with clothes painted on."""
        if self.skins:
            skin = cv2.imread(str(self.skins[rng.integers(len(self.skins))]))[..., ::-1]
            skin = cv2.resize(np.ascontiguousarray(skin[..., :3]), (512, 512), interpolation=cv2.INTER_AREA)
        else:
            tone = rng.uniform(0.35, 1.0) * np.array([230, 180, 150])
            skin = np.broadcast_to(tone.astype(np.uint8), (512, 512, 3))
        image = skin.astype(np.float32)
        wear = [r for r, p in (("shirt", 0.85), ("sleeves", 0.5), ("shoes", 0.85), ("hair", 0.8)) if rng.random() < p]
        wear.append("trousers" if rng.random() < 0.7 else "shorts")
        shirt = rng.uniform(10, 245, 3)
        for region in wear:
            color = shirt if region in ("shirt", "sleeves") else rng.uniform(10, 200, 3)
            if region == "hair":
                color = rng.uniform(0.1, 1.0) * np.array([170, 130, 90])
            cloth = np.broadcast_to(color, (512, 512, 3)) * _texture(rng, 512, 512)[..., None]
            image = np.where(self._wardrobe[region][..., None], cloth, image)
        return render.Texture(image.clip(0, 255).astype(np.uint8), *self.uv)

    def draw(self, seed: int, kind: str, motions: list[Motion]) -> Picture:
        """The picture of a seed."""
        rng = np.random.default_rng((seed, zlib.crc32(kind.encode())))
        width, height = ((640, 480), (480, 640), (560, 560))[rng.integers(3)]
        focal = max(width, height) / 2 / np.tan(np.deg2rad(rng.uniform(38, 80)) / 2)
        image = _background(rng, width, height)
        camera = Camera.make(1, (width, height), focal_px=float(focal))
        count = 0 if kind == "empty" else int(rng.integers(2, 5)) if kind == "crowd" else 1
        vertices, joints, betas = [], [], []
        for _ in range(count):
            body = self._body(rng, kind, motions, camera, image.shape[:2])
            vertices.append(body[0]), joints.append(body[1]), betas.append(body[2])
        if kind == "crowd":
            vertices, joints = _together(rng, vertices, joints, camera)
        visible = np.zeros((count, 24), bool)
        if count:
            bodies = [(v, self._paint(rng)) for v in vertices]
            image = render.overlay(image, bodies, self.model.faces, camera, opacity=1.0)
            visible = self._visible(vertices, joints, camera)
        places = [camera.project(j[None])[0].numpy() for j in joints]
        scale = [float(camera.focal_px[0] / j[0, 2]) for j in joints]
        for mask in covers(rng, kind, places[0], scale[0], (width, height)) if count else ():
            paint = (_texture(rng, width, height)[..., None] * rng.uniform(20, 230, 3)).clip(0, 255)
            image = np.where(mask[..., None], paint, image).astype(np.uint8)
            for p in range(count):
                visible[p] &= ~hidden(mask, places[p])
        image = _developed(rng, image, kind)
        stacked = np.stack([j.numpy() for j in joints]) if count else np.zeros((0, 24, 3))
        return Picture(image, float(focal), stacked, visible, np.array(betas).reshape(count, 10))

    def _body(
        self, rng: np.random.Generator, kind: str, motions: list[Motion], camera: Camera, shape: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Vertices and joints, camera axes, of somebody who stands where the kind wants them."""
        motion, row = _pose_of(rng, kind, motions)
        pose = {"seated": seated, "bent": bent_back}.get(kind, lambda _, pose: pose)(rng, motion.pose[row])
        betas = rng.standard_normal(10).clip(-2.5, 2.5)
        pitch, roll = rng.normal(0, 8), rng.normal(0, 3)
        if kind == "tilted":
            pitch, roll = rng.choice((-1, 1)) * rng.uniform(25, 75), rng.normal(0, 25)
        turns = np.deg2rad([pitch, rng.uniform(-180, 180), roll])
        if kind in ("head", "face", "half"):  # more of them look at the camera
            heading = roma.rotvec_to_rotmat(torch.tensor(motion.root[row]))[:, 2]
            turns[1] = -np.arctan2(float(heading[0]), float(heading[2])) + rng.normal(0, 0.9)
        axes = roma.rotvec_to_rotmat(torch.tensor(np.eye(3) * [turns[0], turns[1], turns[2]]))
        up = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ axes[1]
        R = axes[2] @ axes[0] @ up @ roma.rotvec_to_rotmat(torch.tensor(motion.root[row]))
        if kind == "odd":
            R = roma.rotvec_to_rotmat(torch.tensor(rng.standard_normal(3) * 1.6))
        params = self.model.params(
            betas=torch.tensor(betas[None]),
            body_pose=torch.tensor(pose.reshape(1, -1)),
            global_orient=roma.rotmat_to_rotvec(R)[None],
            transl=torch.zeros(1, 3),
        )
        with torch.no_grad():
            out = self.model(**params)
        vertices, joints = out.vertices[0], out.joints[0, :24]
        shown = _SHOWN.get(kind)
        rows = [i for i, n in enumerate(self.names) if shown is None or any(s in n for s in shown)]
        framed = vertices[np.isin(self.part, rows)]
        fill = rng.uniform(*_FILL.get(kind, (0.45, 0.92)))
        size = np.array([shape[1], shape[0]])
        t = torch.tensor([0.0, 0.0, 4.0])
        middle = size / 2 + rng.uniform(-1, 1, 2) * size * max(0.05, 0.5 * (1 - fill))
        if kind == "cut":
            side = rng.integers(2)
            middle[side] = size[side] * (rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.75, 1.0))
        for _ in range(12):
            near = framed + t
            if float(near[:, 2].min()) < 0.25:
                t = t + torch.tensor([0.0, 0.0, 0.25 - float(near[:, 2].min())])
                continue
            xy = camera.project(near[None])[0].numpy()
            low, high = xy.min(0), xy.max(0)
            grown = float(((high - low) / size).max()) / fill
            t = t * torch.tensor([1.0, 1.0, np.clip(grown, 0.6, 1.6)], dtype=t.dtype)
            move = (middle - (low + high) / 2) * float(t[2]) / float(camera.focal_px[0])
            t = t + torch.tensor([move[0], move[1], 0.0], dtype=t.dtype)
        return vertices + t, joints + t, betas

    def _visible(self, vertices: list[torch.Tensor], joints: list[torch.Tensor], camera: Camera) -> np.ndarray:
        """Which joints lie in the picture and behind nobody else."""
        width, height = camera.image_size
        visible = []
        depths = []
        if len(vertices) > 1:
            for v in vertices:
                maps = render.draw_maps([(v, (0.5, 0.5, 0.5))], self.model.faces, camera, which=("depth",))
                assert maps.depth_m is not None
                depths.append(np.where(maps.depth_m > 0, maps.depth_m, np.inf))
        for p, j in enumerate(joints):
            xy = camera.project(j[None])[0].numpy()
            inside = (xy >= 0).all(1) & (xy < (width, height)).all(1) & (j[:, 2].numpy() > 0.1)
            for q, depth in enumerate(depths):
                if q != p:
                    x, y = xy.clip(0, (width - 1, height - 1)).astype(int).T
                    inside &= ~(depth[y, x] < j[:, 2].numpy() - 0.15)
            visible.append(inside)
        return np.array(visible)


def _pose_of(rng: np.random.Generator, kind: str, motions: list[Motion]) -> tuple[Motion, int]:
    """A clip and a row of it, of those that a kind of picture takes poses from."""
    if kind in WORDS:
        motions = [m for m in motions if re.search(WORDS[kind], m.name)] or motions
    if kind == "bent":
        rows = [(m, row) for m in motions for row in np.flatnonzero(is_bent_back(m.pose, m.root))]
        return rows[rng.integers(len(rows))]
    motion = motions[rng.integers(len(motions))]
    return motion, int(rng.integers(len(motion.pose)))


def _together(
    rng: np.random.Generator, vertices: list[torch.Tensor], joints: list[torch.Tensor], camera: Camera
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """People moved so near each other in the picture that they overlap."""
    first = joints[0][0]
    moved_v, moved_j = [vertices[0]], [joints[0]]
    for k in range(1, len(vertices)):
        depth = float(first[2]) * rng.uniform(0.75, 1.5)
        beside = rng.uniform(0.15, 0.8) * (1 if k % 2 else -1)
        place = torch.tensor([float(first[0] / first[2]) * depth + beside, float(first[1] / first[2]) * depth, depth])
        t = (place - joints[k][0]).to(vertices[k].dtype)
        moved_v.append(vertices[k] + t), moved_j.append(joints[k] + t)
    return moved_v, moved_j


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A pattern about 1: even, noisy at some scale, or striped."""
    base = np.ones((height, width), np.float32)
    style = rng.integers(4)
    if style in (1, 3):
        n = int(rng.integers(3, 40))
        coarse = rng.uniform(0.6, 1.3, (n, n)).astype(np.float32)
        base *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    if style >= 2:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 80)
        y, x = np.mgrid[:height, :width]
        base *= (1 + rng.uniform(0.05, 0.4) * np.sign(np.sin((x * np.cos(angle) + y * np.sin(angle)) / period))).astype(
            np.float32
        )
    return base


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A wall and a floor, or sky and ground, and things that stand about."""
    horizon = int(height * rng.uniform(0.3, 0.9))
    image = np.empty((height, width, 3), np.float32)
    for rows in (slice(0, horizon), slice(horizon, height)):
        h = rows.stop - rows.start
        ramp = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), h)[:, None, None]
        image[rows] = rng.uniform(30, 240, 3) * ramp * _texture(rng, width, h)[..., None]
    for _ in range(rng.integers(0, 14)):
        x, y = rng.integers(-60, width), rng.integers(-60, height)
        w, h = rng.integers(8, 220), rng.integers(8, 260)
        color = tuple(float(c) for c in rng.uniform(10, 245, 3))
        if rng.random() < 0.7:
            cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), color, -1)
        else:
            cv2.ellipse(
                image, (int(x), int(y)), (int(w / 2), int(h / 2)), float(rng.uniform(0, 180)), 0, 360, color, -1
            )
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 4))
    return image.clip(0, 255).astype(np.uint8)


def _developed(rng: np.random.Generator, image: np.ndarray, kind: str) -> np.ndarray:
    """Light, colour, blur and noise of a camera."""
    picture = image.astype(np.float32)
    hard = kind == "dark"
    picture = 255 * (picture / 255) ** rng.uniform(0.8, 1.3)
    picture *= rng.uniform(0.06, 0.3) if hard else rng.uniform(0.7, 1.15)
    picture *= rng.uniform(0.85, 1.15, 3)
    sigma = rng.uniform(1.0, 4.0) if hard else rng.uniform(0.2, 1.0)
    picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    if hard and rng.random() < 0.5:
        length = int(rng.integers(5, 21))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        half = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        a, b = (length / 2 - half), (length / 2 + half)
        cv2.line(kernel, tuple(a.astype(int).tolist()), tuple(b.astype(int).tolist()), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / max(kernel.sum(), 1e-6))
    picture += rng.standard_normal(picture.shape) * (rng.uniform(3, 9) if hard else rng.uniform(0.5, 4))
    return picture.clip(0, 255).astype(np.uint8)
