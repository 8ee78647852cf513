"""One picture through the whole pipeline and onto the disk, with what `summary.json` says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bodyfit import io, render
from bodyfit.app.clothed_files import surface_of, write_clothed
from bodyfit.app.estimates import EstimateFiles, matched
from bodyfit.app.parts import without_parts
from bodyfit.app.pipeline import Lens, fit_detections
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.cli.support.common import DIGITS
from bodyfit.cli.support.runs import emptied_folder, poor_words, run_summary, timed
from bodyfit.detect import Detector
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame, read_image
from bodyfit.io.masks import MaskFiles, with_masks
from bodyfit.io.scans.depth import DepthMap, find_depth, load_depth
from bodyfit.keypoints import Keypoints2D, SoftMask
from bodyfit.runtime.json_text import plain

__all__ = ["Worker"]

_OURS = re.compile(
    r"(overlay|insets|silhouettes)\.png|person\d+(_side\.png|(_clothed)?\.(obj|glb)|_clothed\.(mtl|png)|\.npz)"
)


@dataclass(frozen=True)
class Worker:
    """What stays the same from picture to picture."""

    out: Path
    """Folder of the results."""
    model: BodyModel
    """The body."""
    detector: Detector
    """Finds the people."""
    detector_name: str
    """Its name."""
    lens: Lens
    """What the user said of it."""
    keep_poor: bool = True
    """Whether poor bodies are drawn and written; without, they are only told of."""
    config: FitConfig | None = None
    """Settings of the fit; None for the default ones."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Whether hands and face are fitted, where the model has them."""
    masks: MaskFiles | None = None
    """Files of masks, in the place of the detector's."""
    depth: Path | None = None
    """Folder of depth maps, named as the pictures."""
    estimates: EstimateFiles | None = None
    """Bodies that another program estimated."""
    surface: bool = False
    """Whether clothed surfaces are found and written."""
    fitters: dict[str, Fitter] = field(default_factory=dict)
    """Made with the first picture, used again for the others."""

    def run(self, picture: Path, folder: str) -> dict[str, Any]:
        """Fit a picture, write its files and return its entry in the summary."""
        seconds: dict[str, float] = {}
        with timed(seconds, "read"):
            frame = read_image(picture)
        with timed(seconds, "detect"):
            people = with_masks(self.detector.detect([frame])[0], frame, self.masks)
        with timed(seconds, "fit"):
            how = {"model": self.model, "lens": self.lens, "config": without_parts(self.config, self.parts)}
            depth = None if self.depth is None else self._depth_map(picture, frame)
            if depth is not None and depth.focal_px is not None and how["lens"] == Lens():
                how["lens"] = Lens(focal_px=depth.focal_px)
            maps = None if depth is None else [depth.depth_m]
            estimates, note = self._estimates(picture, frame, people)
            found = fit_detections([frame], [people], fitters=self.fitters, depth=maps, estimates=estimates, **how)
            results = found[0]
        with timed(seconds, "mesh"), torch.no_grad():
            bodies = {i: self.model(**r.params).vertices[0] for i, r in enumerate(results) if self._is_drawn(r)}
        files: list[str] = []
        surface_notes: dict[int, dict[str, str]] = {}
        if bodies:
            target = emptied_folder(self.out, folder, _OURS)
            with timed(seconds, "render"):
                pictures = self._pictures(frame, people, results, bodies)
            with timed(seconds, "save"):
                files = self._save(target, results, bodies, pictures)
            if self.surface:
                with timed(seconds, "surface"):
                    names, surface_notes = self._surfaces(target, frame, people, results, bodies)
                    files += names
        persons = [
            _person(i, p, r, bodies.get(i), files, folder) | surface_notes.get(i, {})
            for i, (p, r) in enumerate(zip(people, results, strict=True))
        ]
        status, message = _verdict(results)
        entry = {
            "input": picture,
            "status": status,
            "message": message,
            "image_size": frame.size,
            **({} if not (notes := [n for n in (frame.note, note) if n]) else {"note": "; ".join(notes)}),
            "people": persons,
            "files": [f"{folder}/{name}" for name in files if not name.startswith("person")],
            "seconds": seconds,
        }
        return plain(entry, DIGITS)

    def _estimates(
        self, picture: Path, frame: Frame, people: list[Keypoints2D]
    ) -> tuple[list[list[BodyParams | None]] | None, str | None]:
        """Another program's bodies of the people of a picture, and a note on who has none. Raises `AssetError`."""
        if self.estimates is None or not people:
            return None, None
        bodies = self.estimates.of(picture)
        if bodies is None:
            return None, f"no estimate is named as {picture.name}"
        own = matched(bodies, self.model, people, frame.size)
        without = [i for i, body in enumerate(own) if body is None]
        note = f"no estimate of person {', '.join(map(str, without))} lies where the person is" if without else None
        return [own], note

    def _depth_map(self, picture: Path, frame: Frame) -> DepthMap:
        """The picture's depth map at the picture's size. Raises `ScanError`."""
        assert self.depth is not None
        path = find_depth(self.depth, picture)
        return load_depth(path).at_size(frame.size, path)

    def _is_drawn(self, result: FitResult) -> bool:
        """Whether a person's body is drawn and written."""
        status = result.status[0]
        return status.ok and (self.keep_poor or status is not FitStatus.POOR)

    def summary(self, entries: list[dict[str, Any]], *, seconds: float, interrupted: bool) -> dict[str, Any]:
        """What goes into summary.json."""
        return run_summary(self.model, self.detector_name, entries, seconds=seconds, interrupted=interrupted)

    def _pictures(
        self, frame: Frame, people: list[Keypoints2D], results: list[FitResult], bodies: dict[int, Tensor]
    ) -> dict[str, Any]:
        faces = self.model.faces
        good = [results[i] for i in bodies]
        cameras = Camera.cat([r.camera for r in good], frame.size)
        painted = [(vertices, render.person_color(i)) for i, vertices in bodies.items()]
        poor = [place for place, result in enumerate(good) if result.status[0] is FitStatus.POOR]
        pictures: dict[str, Any] = {
            "overlay.png": render.overlay(
                frame.image,
                painted,
                faces,
                cameras,
                keypoints=[r.keypoints[0] for r in good],
                layout=good[0].layout,
                poor=poor,
            )
        }
        parts = render.inset_parts(self.model)
        insets = render.draw_insets(frame.image, painted, faces, cameras, parts, poor=poor)
        if insets is not None:
            pictures["insets.png"] = insets
        masks = {i: mask for i in bodies if isinstance(mask := people[i].mask, SoftMask)}
        if masks:
            of_masks = Camera.cat([results[i].camera for i in masks], frame.size)
            some = [bodies[i] for i in masks]
            pictures["silhouettes.png"] = render.draw_silhouettes(
                frame.image, list(masks.values()), some, faces, of_masks
            )
        for i, vertices in bodies.items():
            pictures[f"person{i}_side.png"] = render.side_view(
                vertices, faces, color=render.person_color(i), poor=results[i].status[0] is FitStatus.POOR
            )
        return pictures

    def _surfaces(
        self,
        folder: Path,
        frame: Frame,
        people: list[Keypoints2D],
        results: list[FitResult],
        bodies: Mapping[int, Tensor],
    ) -> tuple[list[str], dict[int, dict[str, str]]]:
        """Find and write the clothed surfaces of those who have a body and a mask; returns the names and notes."""
        names: list[str] = []
        notes: dict[int, dict[str, str]] = {}
        for i in bodies:
            surface, note = surface_of(results[i], people[i], frame, self.model)
            if note is not None:
                notes[i] = {"surface_note": note}
            if surface is not None:
                names += write_clothed(surface, results[i], people[i], frame, folder, f"person{i}")
        return names, notes

    def _save(
        self, folder: Path, results: list[FitResult], bodies: dict[int, Tensor], pictures: dict[str, Any]
    ) -> list[str]:
        """Write everything; returns the names."""
        model, faces = self.model, self.model.faces
        names = list(pictures)
        for name, picture in pictures.items():
            io.save_picture(folder / name, picture)
        for i, vertices in bodies.items():
            io.save_obj(folder / f"person{i}.obj", vertices, faces, uv=model.uv, uv_faces=model.uv_faces)
            io.export(results[i], folder / f"person{i}.glb", model=model, color=render.person_color(i))
            io.save(results[i], folder / f"person{i}.npz")
            names += [f"person{i}.{kind}" for kind in ("obj", "glb", "npz")]
        return names


def _person(
    index: int, person: Keypoints2D, result: FitResult, vertices: Tensor | None, files: list[str], folder: str
) -> dict[str, Any]:
    """A person's entry in the summary; the box is that of the body where there is one, else of the keypoints."""
    box = person.box_px() if vertices is None else _box_px(vertices, result.camera)
    height = box[3] - box[1]
    error = float(result.reprojection_error_px[0])
    return {
        "person": index,
        "status": result.status[0].value,
        "reason": result.reason[0],
        **({} if result.mask_notes[0] is None else {"mask_note": result.mask_notes[0]}),
        "legs_at_rest": bool(result.legs_at_rest[0]),
        "reprojection_error_px": error,
        "reprojection_error_percent": 100 * error / height if height > 0 else float("nan"),
        "box_px": box,
        "detection_score": person.score,
        "focal_px": float(result.camera.focal_px[0]),
        "focal_source": result.focal_source,
        "distance_m": float(result.joints[0, 0, 2]),
        "files": [f"{folder}/{name}" for name in files if re.match(rf"person{index}[._]", name)],
    }


def _box_px(vertices: Tensor, camera: Camera) -> tuple[float, ...]:
    """x0, y0, x1, y1 of the part of the body that lies in the picture."""
    xy = camera.project(vertices[None])[0]
    size = xy.new_tensor(camera.image_size)
    return tuple(torch.cat([xy.amin(0).clamp_min(0).minimum(size), xy.amax(0).clamp_min(0).minimum(size)]).tolist())


def _verdict(results: list[FitResult]) -> tuple[str, str | None]:
    """The input's status and, if there is no good body, why."""
    if not results:
        return "nobody", "nobody was found in the picture"
    if any(r.status[0].ok and r.status[0] is not FitStatus.POOR for r in results):
        return "ok", None
    poor = [(i, r.reason[0]) for i, r in enumerate(results) if r.status[0] is FitStatus.POOR]
    if poor:
        return "poor", poor_words(poor)
    reasons = dict.fromkeys(reason for result in results for reason in result.reason if reason)
    return "failed", f"no body can be placed: {'; '.join(reasons)}"
