"""Two networks on one person: what to make of landmarks that lie elsewhere than the proposal says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bodyfit.detect.networks.multipose import Proposal
from bodyfit.detect.search.closeup import UNSEEN, close_up, connected
from bodyfit.detect.search.similarity import COCO_ROWS, as_coco, closeness
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names, mirrored_rows

__all__ = ["as_proposed", "believable", "reconciled"]

_COCO, _LANDMARKS = layout_names("coco17"), layout_names("mediapipe33")
_SWAP = mirrored_rows(_COCO)
_TRUNK = [_COCO.index(f"{side}_{part}") for side in ("left", "right") for part in ("shoulder", "hip")]
_BEYOND = {
    "elbow": ("elbow", "wrist", "pinky_knuckle", "index_knuckle", "thumb_knuckle"),
    "wrist": ("wrist", "pinky_knuckle", "index_knuckle", "thumb_knuckle"),
    "knee": ("knee", "ankle", "heel", "big_toe"),
    "ankle": ("ankle", "heel", "big_toe"),
}
"""What moves with a joint of a limb."""
_LOWER = [i for i, n in enumerate(_LANDMARKS) if any(part in n for part in ("hip", "knee", "ankle", "heel", "toe"))]
_SURE, _FAR, _NEAR = 0.3, 0.1, 0.5
"""Confidence of a proposal's point that can contradict; closeness (`similarity`) of points that lie apart, together."""


def believable(proposal: Proposal, agreement: float, visible: float, face: float = 0.0) -> bool:
    """Whether a proposal is a person and no ghost, by its score, what MediaPipe's landmarks make of it, and its size.

    `agreement` is the similarity of the two, 0 where the landmark network saw nobody; `visible` the landmarks' mean
    visibility. Bounds by the proposals of some 50 pictures (docs/detectors.md): people score 0.3 and more with few
    exceptions, things 0.2 and less with none, and a tripod of 48 px looks to both networks like a person. Whom only a
    closer look at a hint shows, both networks must see well: things that get so far are seen with 0.79 at most.
    `face` is the mean visibility of a close-up's head: MoveNet gives faces in a crowd, and such as fill the picture,
    0.1 and less, and both networks see nothing else as a face (none in 70 pictures and parts of pictures of things).
    """
    if proposal.score >= 0.1 and agreement >= 0.5 and face >= 0.9:
        return True
    height = proposal.height_px
    if proposal.hinted:
        return height >= 50 and agreement >= 0.6 and proposal.score >= (0.15 if visible >= 0.8 else 0.35)
    if proposal.score >= 0.3:
        return True
    if proposal.score >= 0.2:
        return height >= 50 and (agreement >= 0.3 or proposal.looks >= 2)
    return proposal.score >= 0.15 and height >= 60 and agreement >= 0.4 and visible >= 0.8 and not proposal.cut


def as_proposed(proposal: Proposal) -> Keypoints2D:
    """The proposal alone, in MediaPipe's layout: without lift, and without hands, feet and mouth."""
    xyc = np.zeros((len(_LANDMARKS), 3), np.float32)
    xyc[COCO_ROWS] = connected(proposal.xyc)
    xyc[:, 2] = np.clip(xyc[:, 2], 0, 1)
    return Keypoints2D("mediapipe33", xyc, score=min(1.0, max(0.0, proposal.score)), box=proposal.box)


def reconciled(person: Keypoints2D, proposal: Proposal, neighbours: Sequence[Proposal]) -> Keypoints2D:
    """Landmarks (mediapipe33) with what the proposal contradicts repaired or refused.

    A limb's point that lies on the same joint of a neighbour, or on its twin of the other side, while the proposal
    sees it elsewhere is taken from the proposal; what hangs on it is dropped. One that merely lies elsewhere keeps a
    third of its confidence. Where the proposal has left and right the other way round all limbs keep half: either
    network may be wrong, and a fit that tries both orders should not be sure. Where the proposal sees nothing from the
    hips down, what the landmarks say of it is a guess, which in a close-up lies within the picture and looks sure; so
    are elbows and hands that the proposal does not see either.
    """
    xyc = person.xyc.copy()
    lift = None if person.lift_m is None else person.lift_m.copy()
    if close_up(proposal.xyc):
        guesses = [*_LOWER, *_unconfirmed_arms(proposal)]
        xyc[guesses, 2] = 0
        if lift is not None:
            lift[guesses] = np.nan
        person = replace(person, xyc=xyc.copy(), lift_m=lift)
    seen, height = as_coco(xyc), proposal.height_px
    close = closeness(seen, proposal.xyc, height)
    if _turned(seen, proposal, height):
        xyc[[i for i, name in enumerate(_LANDMARKS) if name.split("_")[0] in ("left", "right")], 2] *= 0.5
        return replace(person, xyc=xyc)
    for name in (f"{side}_{joint}" for joint in _BEYOND for side in ("left", "right")):
        at = _COCO.index(name)
        merged = _merged(seen, at, proposal)
        if proposal.xyc[at, 2] < _SURE or (close[at] > _FAR and not merged):
            continue
        side, joint = name.split("_")
        rows = [_LANDMARKS.index(f"{side}_{part}") for part in _BEYOND[joint]]
        if merged or any(_on(seen, at, other, height) for other in neighbours):
            xyc[rows, 2] = 0
            xyc[rows[0]] = proposal.xyc[at] * (1, 1, 0.8)
            if lift is not None:
                lift[rows] = np.nan
        else:
            xyc[rows, 2] /= 3
    return replace(person, xyc=xyc, lift_m=lift)


def _unconfirmed_arms(proposal: Proposal) -> list[int]:
    """The landmarks of elbows, and of wrists with their hands, that a proposal does not see."""
    rows = []
    for side in ("left", "right"):
        parts = {"elbow": ["elbow"], "wrist": _BEYOND["wrist"]}
        unconfirmed = [joint for joint in parts if proposal.xyc[_COCO.index(f"{side}_{joint}"), 2] < UNSEEN]
        rows += [_LANDMARKS.index(f"{side}_{part}") for joint in unconfirmed for part in parts[joint]]
    return rows


def _turned(seen: Float[np.ndarray, "17 3"], proposal: Proposal, height_px: float) -> bool:
    """Whether the proposal's trunk fits the landmarks much better with left and right exchanged."""
    if proposal.xyc[_TRUNK, 2].min() < _SURE:
        return False
    straight, crossed = (closeness(seen, proposal.xyc[rows], height_px)[_TRUNK].mean() for rows in (slice(None), _SWAP))
    return bool(crossed > straight + 0.3)


def _merged(seen: Float[np.ndarray, "17 3"], at: int, proposal: Proposal) -> bool:
    """Whether a joint and its twin lie together where the proposal surely has them well apart."""
    rows = [at, _SWAP[at]]
    apart, proposed = (float(np.hypot(*(xy[rows[0]] - xy[rows[1]])[:2])) for xy in (seen, proposal.xyc))
    sure = proposal.xyc[rows, 2].min() >= _SURE
    return bool(sure and proposed > 0.15 * proposal.height_px and apart < 0.4 * proposed)


def _on(seen: Float[np.ndarray, "17 3"], at: int, neighbour: Proposal, height_px: float) -> bool:
    """Whether a joint lies on the same joint, of either side, of somebody else."""
    return any(
        neighbour.xyc[row, 2] >= _SURE and closeness(seen[[at] * 17], neighbour.xyc[[row] * 17], height_px)[at] > _NEAR
        for row in (at, _SWAP[at])
    )
