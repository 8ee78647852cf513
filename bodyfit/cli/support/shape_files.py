"""The files that `bodyfit shape` writes, and what it says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import bodyfit
from bodyfit import io, render
from bodyfit.app.shape import PictureFit, ShapeResult
from bodyfit.cli.support import common
from bodyfit.cli.support.runs import emptied_folder, run_summary
from bodyfit.fit.result import FitStatus
from bodyfit.images.frame import Frame
from bodyfit.keypoints import SoftMask
from bodyfit.runtime.json_text import plain

__all__ = ["ShapeFiles"]

_PICTURE_FILES = re.compile(r"(overlay|silhouettes)\.png|person0\.npz")
_BODY_FILES = ("measurements.json", "measurements.csv", "body.npz", "body.obj", "body.glb", "body.png", "report.html")
_KILOGRAMS = ("mass",)


class ShapeFiles:
    """Writer of one shape's results to a folder."""

    def __init__(self, out: Path, found: ShapeResult, detector_name: str) -> None:
        self.out, self.found, self.detector_name = out, found, detector_name
        self.names = list(_folder_names([picture.frame for picture in found.pictures]))
        for name in _BODY_FILES:  # those of an earlier run are not of this shape
            (out / name).unlink(missing_ok=True)

    def write_pictures(self) -> list[dict[str, Any]]:
        """Write overlay and fit of each picture; return their entries for the summary."""
        return [self._picture(picture, name) for picture, name in zip(self.found.pictures, self.names, strict=True)]

    def write_body(self) -> None:
        """Write measurements, and the body in A-pose, if there is one."""
        found, out = self.found, self.out
        if not found.status.ok:
            return
        io.write_json(out / "measurements.json", self.measurements())
        rows = ["measurement,unit,value,low,high,sd"]
        for name, m in found.measurements.items():
            rows.append(f"{name},{_unit(name)},{m.value:.4f},{m.low:.4f},{m.high:.4f},{m.sd:.4f}")
        with io.write_atomically(out / "measurements.csv") as temporary:
            temporary.write_text("\n".join(rows) + "\n", encoding="ascii")
        params, model = found.a_pose(), found.model
        io.save_params(params, out / "body.npz", model=model)
        io.export(params, out / "body.obj", model=model)
        io.export(params, out / "body.glb", model=model)
        with torch.no_grad():
            vertices = model(**params).vertices[0]
        views = [render.turn_view(vertices, model.faces, yaw, (360, 480)) for yaw in (0.0, 90.0)]
        io.save_picture(out / "body.png", render.contact_sheet(views, columns=2))

    def write_report(self) -> None:
        """Write the page, if there is a body."""
        if not self.found.status.ok:
            return
        from bodyfit.app.results.folder import read_results
        from bodyfit.report.page import write_page

        write_page(read_results(self.out), self.out / "report.html")

    def measurements(self) -> dict[str, Any]:
        """Make the content of measurements.json."""
        found = self.found
        return {
            "bodyfit": bodyfit.__version__,
            "model": found.model.name,
            "gender": found.model.gender,
            "status": found.status,
            "reason": found.reason,
            "known": {"height_m": found.height_m, "mass_kg": found.mass_kg},
            "level": found.level,
            "pictures": [
                {"picture": name, "used": picture.reason is None, "reason": picture.reason}
                for name, picture in zip(self.names, found.pictures, strict=True)
            ],
            "measurements": {name: {"unit": _unit(name), **asdict(m)} for name, m in found.measurements.items()},
            "betas": found.betas,
            "betas_covariance": found.covariance,
            "notes": found.notes,
        }

    def summary(self, entries: list[dict[str, Any]], *, seconds: float) -> dict[str, Any]:
        """Make the content of summary.json."""
        files = [name for name in _BODY_FILES if name != "report.html" and (self.out / name).is_file()]
        shape = {"status": self.found.status, "reason": self.found.reason, "used": self.found.used, "files": files}
        shape["measurements"] = self.measurements()["measurements"] if self.found.status.ok else {}
        base = run_summary(self.found.model, self.detector_name, entries, seconds=seconds, interrupted=False)
        return base | {"shape": plain(shape, common.DIGITS)}

    def say(self) -> None:
        """Print each picture's error and the measurements."""
        for picture, name in zip(self.found.pictures, self.names, strict=True):
            if picture.result is not None and picture.reason is None:
                error = float(picture.result.reprojection_error_px[0])
                common.say(f"{name}: off by {error:.1f} px")
        for name, m in self.found.measurements.items():
            scale, unit = (1.0, "kg") if name in _KILOGRAMS else (100.0, "cm")
            value, low, high = (scale * number for number in (m.value, m.low, m.high))
            common.say(f"  {name.replace('_', ' '):<17}{value:7.1f} {unit}   {low:.1f} to {high:.1f}")
        if self.found.status.ok:
            used, all_of_them = self.found.used, len(self.found.pictures)
            pictures = f"{used} of {all_of_them} pictures" if all_of_them > 1 else "1 picture"
            common.say(f"{pictures}, {100 * self.found.level:.0f} % intervals -> {self.out}")

    def _picture(self, picture: PictureFit, name: str) -> dict[str, Any]:
        """Write the files of one picture and return its entry."""
        result, frame = picture.result, picture.frame
        files: list[str] = []
        if result is not None and result.status[0].ok:
            folder = emptied_folder(self.out, name, _PICTURE_FILES)
            with torch.no_grad():
                vertices = self.found.model(**result.params).vertices[0]
            over = render.overlay(
                frame.image,
                [(vertices, render.person_color(0))],
                self.found.model.faces,
                result.camera,
                keypoints=[result.keypoints[0]],
                layout=result.layout,
                poor=[0] if result.status[0] is FitStatus.POOR else [],
            )
            io.save_picture(folder / "overlay.png", over)
            io.save(result, folder / "person0.npz")
            files = [f"{name}/overlay.png", f"{name}/person0.npz"]
            mask = None if picture.person is None else picture.person.mask
            if isinstance(mask, SoftMask):
                body = self.found.model.faces, result.camera
                io.save_picture(
                    folder / "silhouettes.png", render.draw_silhouettes(frame.image, [mask], [vertices], *body)
                )
                files.insert(1, f"{name}/silhouettes.png")
        status = "ok" if picture.reason is None else "nobody" if result is None else "poor" if files else "failed"
        if picture.reason is not None:
            common.error(f"{name}: left out: {picture.reason}")
        entry = {
            "input": frame.path,
            "status": status,
            "message": picture.reason,
            "image_size": frame.size,
            **({} if frame.note is None else {"note": frame.note}),
            "people": [] if result is None else [_person(picture, files)],
            "files": files[:-1],
        }
        return plain(entry, common.DIGITS)


def _person(picture: PictureFit, files: list[str]) -> dict[str, Any]:
    """Make the entry of the person in a picture."""
    result = picture.result
    assert result is not None
    return {
        "person": 0,
        "people_in_picture": picture.people,
        "status": result.status[0],
        "reason": result.reason[0],
        "reprojection_error_px": float(result.reprojection_error_px[0]),
        "focal_px": float(result.camera.focal_px[0]),
        "focal_source": result.focal_source,
        "distance_m": float(result.joints[0, 0, 2]),
        "mask_note": result.mask_notes[0],
        "files": files[-1:],
    }


def _folder_names(frames: list[Frame]) -> Iterator[str]:
    """Name a folder for each picture after its file, for a frame of a clip with its number; no two are alike."""
    paths = [frame.path for frame in frames]
    used = {name.casefold() for name in (*_BODY_FILES, "summary.json")}
    for frame, path in zip(frames, paths, strict=True):
        stem = "picture" if path is None else path.stem.rstrip(". ") or "picture"
        stem = f"{stem}_{frame.index:06d}" if paths.count(path) > 1 else stem
        name = next(
            n for i in range(1, len(frames) + 3) if (n := stem if i == 1 else f"{stem}_{i}").casefold() not in used
        )
        used.add(name.casefold())
        yield name


def _unit(name: str) -> str:
    return "kg" if name in _KILOGRAMS else "m"
