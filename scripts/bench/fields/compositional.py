"""Measure compositional feature fields: pictures of unseen poses and cameras, new people, and each factor by itself.

    python -m scripts.train.field_pictures -o PICTURES --people 200 --each 18
    python -m scripts.bench.fields.compositional PICTURES [--fields RUN/people.npz] [--json docs/benchmarks/fields.json]

PSNR and SSIM are those of the box of the people's mask and 4 px about it. Times are seconds of CPU on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

import bodyfit
from bodyfit.body.model import load_model
from bodyfit.detect import load_detector
from bodyfit.detect.networks.session import shipped_network
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.fields.compositional import BodyField, FieldScene, FieldSet, draw_fields, fit_codes, load_fields
from bodyfit.images.frame import Frame
from bodyfit.keypoints import convert_keypoints
from scripts.bench.fields.measures import box_scores, psnr
from scripts.bench.records import harness
from scripts.train.field_data import FieldPicture, load_split
from scripts.train.field_pictures import MODEL, cast_of, draw, splits

_ENLARGED_PX = 384
"""The detector gets pictures of 128 px enlarged to this."""
_LEAST_IOU = 0.5
_JUMP = 0.1
"""Keypoints that move by more than this, in heights, were found elsewhere."""


class Observer:
    """The shipped detector and fit, on enlarged pictures."""

    def __init__(self) -> None:
        self._detector = load_detector()
        self._models = {gender: load_model(MODEL, gender=gender) for gender in ("male", "female")}

    def find(
        self, picture: UInt8[np.ndarray, "S S 3"], mask: Bool[np.ndarray, "S S"]
    ) -> Float[np.ndarray, "17 3"] | None:
        """COCO's keypoints, in the picture's pixels, of whoever is found where the mask is; None for nobody."""
        large, factor = enlarged(picture)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        best, most = None, _LEAST_IOU
        for person in self._detector.detect([Frame(large)])[0]:
            xyc = convert_keypoints(person.xyc, person.layout, "coco17")[0].astype(np.float64)
            xyc[:, :2] /= factor
            sure = xyc[xyc[:, 2] > 0.2, :2]
            if len(sure) < 4:
                continue
            own = np.array([*(sure.min(0) - 0.06 * np.ptp(box[1::2])), *(sure.max(0) + 0.06 * np.ptp(box[1::2]))])
            if (overlap := iou(own, box)) > most:
                best, most = xyc, overlap
        return best

    def fit_mm(self, picture: UInt8[np.ndarray, "S S 3"], scene: FieldScene) -> float:
        """PA-MPJPE of the largest person's fit against the scene's body; NaN where nobody is found."""
        large, factor = enlarged(picture)
        one = scene.objects[0]
        results = bodyfit.fit_image(
            large, detector=self._detector, focal_px=scene.camera.focal_px * factor, hands=False, face=False
        )
        if not results:
            return float("nan")
        count = 22
        with torch.no_grad():
            truth = one.model(**one.params).joints[:, :count].numpy() @ scene.camera.R_cam_world.T
        return pa_mpjpe(results[0].joints[:1, :count].numpy().astype(np.float64), truth.astype(np.float64)).mean


def enlarged(picture: UInt8[np.ndarray, "S S 3"]) -> tuple[UInt8[np.ndarray, "L L 3"], float]:
    """A picture enlarged for the detector, and by how much."""
    size = (_ENLARGED_PX, _ENLARGED_PX)
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), _ENLARGED_PX / len(picture)


def iou(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Overlap of two boxes: left, top, right, bottom."""
    both = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def scene_of(one: FieldPicture, fields: FieldSet, looks: Tensor | None = None) -> FieldScene:
    """The scene of a picture, with the codes of its people or others."""
    looks = fields.appearances[list(one.people)] if looks is None else looks
    objects = [
        BodyField(params, load_model(MODEL, gender=gender), look)
        for params, gender, look in zip(one.params, one.genders, looks, strict=True)
    ]
    return FieldScene(tuple(objects), fields.backgrounds[one.background], one.camera)


def reconstruction(fields: FieldSet, pictures: Sequence[FieldPicture]) -> dict[str, float]:
    """Drawn pictures of people and backgrounds of the training against true ones."""
    drawn = [draw_fields(scene_of(one, fields), fields).picture for one in pictures]
    return mean_scores(drawn, [one.picture for one in pictures], [one.alpha > 127 for one in pictures])


def mean_scores(
    drawn: Sequence[UInt8[np.ndarray, "S S 3"]],
    truth: Sequence[UInt8[np.ndarray, "S S 3"]],
    masks: Sequence[Bool[np.ndarray, "S S"]],
) -> dict[str, float]:
    """Means over pictures."""
    scores = np.array([box_scores(a, b, m) for a, b, m in zip(drawn, truth, masks, strict=True)])
    psnr_db, ssim = np.nanmean(scores, 0)
    return {"psnr_db": round(float(psnr_db), 2), "ssim": round(float(ssim), 4), "pictures": len(scores)}


def at_256(fields: FieldSet, pictures: Sequence[FieldPicture], cast: list[bodyfit.Outfit]) -> dict[str, float]:
    """The same networks with twice the rays, against pictures of 256 px."""
    drawn, truth, masks = [], [], []
    for one in pictures:
        camera = replace(one.camera, size=256, focal_px=2 * one.camera.focal_px)
        drawn.append(draw_fields(replace(scene_of(one, fields), camera=camera), fields).picture)
        bodies = list(zip(one.params, one.genders, strict=True))
        picture, alpha = draw(bodies, [cast[i] for i in one.people], camera, one.background)
        truth.append(picture)
        masks.append(alpha > 127)
    return mean_scores(drawn, truth, masks)


def random_people(fields: FieldSet, pictures: Sequence[FieldPicture], observer: Observer) -> dict[str, float]:
    """How many people of random codes the detector finds, and of the true pictures of the same bodies."""
    looks = fields.random_appearances(len(pictures), 5)
    found = np.zeros(2, int)
    for one, look in zip(pictures, looks, strict=True):
        drawing = draw_fields(scene_of(one, fields, look[None]), fields)
        mask = one.alpha > 127
        found += [observer.find(picture, mask) is not None for picture in (drawing.picture, one.picture)]
    return {"found": found[0] / len(pictures), "found_in_truth": found[1] / len(pictures), "pictures": len(pictures)}


def new_people(fields: FieldSet, pictures: Sequence[FieldPicture], people: int, steps: int) -> dict[str, float]:
    """People whom no training saw: codes from one picture, drawn in the others; background codes from each picture."""
    drawn, truth, masks, began = [], [], [], []
    by_person: dict[int, list[FieldPicture]] = {}
    for one in pictures:
        by_person.setdefault(one.people[0], []).append(one)
    mean = fields.appearances.mean(0, keepdim=True)
    for own in list(by_person.values())[:people]:
        first, *others = sorted(own, key=lambda one: -int(one.alpha.astype(int).sum()))  # the largest is given
        fitted = fit_codes(first.picture, first.alpha / 255, scene_of(first, fields, mean), fields, steps=steps)
        look = fitted.objects[0].appearance[None]
        for one in others:
            drawn.append(draw_fields(scene_of(one, fields, look), fields).picture)
            began.append(draw_fields(scene_of(one, fields, mean), fields).picture)
            truth.append(one.picture)
            masks.append(one.alpha > 127)
    return mean_scores(drawn, truth, masks) | {"mean_code_psnr_db": mean_scores(began, truth, masks)["psnr_db"]}


def appearance_alone(
    fields: FieldSet, pictures: Sequence[FieldPicture], cast: list[bodyfit.Outfit], observer: Observer
) -> dict[str, float]:
    """How far keypoints move when the look changes, in heights of the person; and when the true person is redressed.

    "jumps" is the part of the pictures in which they move by more than a tenth of the height: the detector then takes
    left for right or finds a limb elsewhere, and few of these make most of the mean.
    """
    moves = []
    for k, one in enumerate(pictures):
        mask = one.alpha > 127
        height = np.ptp(np.flatnonzero(mask.any(1))) + 1
        other = pictures[(k + 2) % len(pictures)].people
        fielded = [
            draw_fields(scene_of(one, fields, fields.appearances[list(p)]), fields).picture for p in (one.people, other)
        ]
        bodies = list(zip(one.params, one.genders, strict=True))
        dressed = [one.picture, draw(bodies, [cast[i] for i in other], one.camera, one.background)[0]]
        row = [moved(observer.find(a, mask), observer.find(b, mask), height) for a, b in (fielded, dressed)]
        moves.append(row)
    scores = {"pictures": len(moves)}
    for name, own in zip(("moved", "redressed"), np.array(moves).T, strict=True):
        own = own[np.isfinite(own)]
        scores |= {f"{name}_heights": round(float(own.mean()), 4), f"{name}_median": round(float(np.median(own)), 4)}
        scores |= {f"{name}_jumps": round(float((own > _JUMP).mean()), 3)}
        scores |= {f"{name}_without_jumps": round(float(own[own <= _JUMP].mean()), 4)}
    return scores


def moved(a: Float[np.ndarray, "17 3"] | None, b: Float[np.ndarray, "17 3"] | None, height: float) -> float:
    """Mean distance of keypoints that both are sure of, in heights."""
    if a is None or b is None:
        return float("nan")
    sure = (a[:, 2] > 0.3) & (b[:, 2] > 0.3)
    return float(np.linalg.norm((a - b)[sure, :2], axis=1).mean() / height) if sure.any() else float("nan")


def pose_alone(fields: FieldSet, pictures: Sequence[FieldPicture], observer: Observer) -> dict[str, float]:
    """Fits of drawn people against the pose asked for, beside fits of true pictures; colours from pose to pose."""
    errors, colors = [], []
    for k, one in enumerate(pictures):
        scene = scene_of(one, fields)
        drawing = draw_fields(scene, fields)
        errors.append([observer.fit_mm(drawing.picture, scene), observer.fit_mm(one.picture, scene)])
        other = pictures[(k + 2) % len(pictures)]
        turned = draw_fields(scene_of(other, fields, fields.appearances[list(one.people)]), fields)
        masks = [np.kron(d.person == 0, np.ones((2, 2), bool)) for d in (drawing, turned)]
        means = [d.picture[m].mean(0) for d, m in zip((drawing, turned), masks, strict=True) if m.any()]
        colors.append(np.abs(means[0] - means[1]).mean() if len(means) == 2 else np.nan)
    both = np.array(errors)
    both = both[np.isfinite(both).all(1)]
    return {
        "fit_pa_mpjpe_mm": round(float(both[:, 0].mean()), 1),
        "fit_of_truth_pa_mpjpe_mm": round(float(both[:, 1].mean()), 1),
        "fitted": len(both),
        "colour_change_of_255": round(float(np.nanmean(colors)), 2),
        "pictures": len(pictures),
    }


def one_moved(fields: FieldSet, pictures: Sequence[FieldPicture]) -> dict[str, float]:
    """PSNR of what a moved person does not touch: everything but the pixels of their rays, before and after.

    "beyond": everything but these and a pixel of the feature image about them, which the renderer's first layer sees.
    """
    values = []
    for one in pictures:
        scene = scene_of(one, fields)
        placed = replace(scene.objects[0], t_world_body_m=np.array([0.25, 0.0, 0.1]))
        before, after = (
            draw_fields(scene, fields),
            draw_fields(replace(scene, objects=(placed, *scene.objects[1:])), fields),
        )
        rays = ((before.shares[0] > 0.004) | (after.shares[0] > 0.004)).astype(np.uint8)
        change = (before.picture.astype(float) - after.picture) / 255
        touched = (np.kron(part, np.ones((2, 2))) > 0 for part in (rays, cv2.dilate(rays, np.ones((3, 3), np.uint8))))
        values.append([psnr(change[~part]) for part in touched])
    (median, beyond), (worst, worst_beyond) = (
        np.median(values, 0).round(1).tolist(),
        np.min(values, 0).round(1).tolist(),
    )
    scores = {"psnr_db": median, "worst_db": worst, "beyond_db": beyond, "worst_beyond_db": worst_beyond}
    return scores | {"pictures": len(values)}


def speed(fields: FieldSet, pictures: Sequence[FieldPicture]) -> dict[str, float]:
    """Milliseconds of CPU to draw a picture of one person, casting of the body included."""
    scenes = [scene_of(one, fields) for one in pictures]
    draw_fields(scenes[0], fields)
    start = time.process_time()
    for scene in scenes:
        draw_fields(scene, fields)
    ms = 1e3 * (time.process_time() - start) / len(scenes)
    return {"ms_a_picture": round(ms, 1), "pictures_a_second": round(1e3 / ms, 1)}


def sharpness(fields: FieldSet, pictures: Sequence[FieldPicture]) -> dict[str, float]:
    """Strength of edges on people, drawn over true; and how far the detector's features of drawn people are off.

    Features are those of MoveNet's backbone on pictures of 256 px; their distance is relative to their size.
    """
    network = shipped_network("movenet_maps", 1)
    strength, away = [], []
    for one in pictures:
        mask = cv2.dilate((one.alpha > 127).astype(np.uint8), np.ones((5, 5), np.uint8))
        row, features = [], []
        for picture in (draw_fields(scene_of(one, fields), fields).picture, one.picture):
            gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
            row.append(np.abs(cv2.Laplacian(gray, cv2.CV_32F))[mask > 0].mean())
            large = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)
            features.append(network.run(["features"], {"input": large[None]})[0][0])
        strength.append(row)
        at = cv2.resize(mask, features[0].shape[:0:-1], interpolation=cv2.INTER_AREA) > 0
        a, b = (f[:, at] for f in features)
        away.append(np.linalg.norm(a - b) / np.linalg.norm(b))
    drawn, truth = np.mean(strength, 0)
    return {"edges_of_truth": round(float(drawn / truth), 3), "features_away": round(float(np.mean(away)), 3)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of scripts.train.field_pictures")
    parser.add_argument("--fields", type=Path, help="a set of fields; the shipped one if left out")
    parser.add_argument("--people", type=int, default=200, help="of the pictures' cast")
    parser.add_argument("-n", type=int, default=100, help="pictures of each measurement, at most")
    parser.add_argument("--only", default="", help="measurements, by name, comma-separated")
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fields = load_fields(args.fields)
    some: dict[str, list[FieldPicture]] = {}
    for split in splits(1, 1):
        loaded = load_split(args.pictures, split.name, fields.network.config, most=args.n)
        new = split.name == "new"  # of nobody whose code a set has
        some[split.name] = [one for one in loaded if new or max(one.people) < len(fields.appearances)]
    cast, observer = cast_of(args.people), Observer()
    held, few = some["held"], some["held"][: max(args.n // 4, 2)]
    jobs: dict[str, Callable[[], dict[str, float]]] = {
        "train": lambda: reconstruction(fields, [p for p in some["train"] if len(p.people) == 1]),
        "held": lambda: reconstruction(fields, held),
        "two": lambda: reconstruction(fields, some["two"]),
        "five": lambda: reconstruction(fields, some["five"]),
        "at_256": lambda: at_256(fields, few, cast),
        "random_codes": lambda: random_people(fields, held, observer),
        "new_people": lambda: new_people(fields, some["new"], max(args.n // 8, 2), 120),
        "appearance": lambda: appearance_alone(fields, held, cast, observer),
        "pose": lambda: pose_alone(fields, few, observer),
        "one_moved": lambda: one_moved(fields, some["two"]),
        "sharpness": lambda: sharpness(fields, held),
        "speed": lambda: speed(fields, few),
    }
    chosen = [name.strip() for name in args.only.split(",") if name.strip()] or list(jobs)
    results = {}
    for name in chosen:
        results[name] = jobs[name]()
        print(name, results[name], flush=True)
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
