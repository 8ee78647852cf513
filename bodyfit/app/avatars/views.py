"""Views of one person for an avatar: results of fits, their pictures or clip, and masks of detectors or files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.app.avatars.placed import PlacedBody, view_of
from bodyfit.app.results.bodies import Models
from bodyfit.app.results.find import Failure, Person, ResultFiles
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.detect import Detector
from bodyfit.errors import OptionError, VideoError
from bodyfit.fit.result import FitStatus
from bodyfit.images.frame import Frame, read_image
from bodyfit.io import VideoReader
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.masks import MaskFiles

__all__ = ["AvatarMaterial", "counted", "gather_views", "moments_to_score"]

_EACH = 6
"""One of so many pictures is held out to score the avatar by."""


@dataclass(frozen=True, eq=False)
class AvatarMaterial:
    """What an avatar is made of, and scored by."""

    model: BodyModel
    """The body model of the fits."""
    views: tuple[AvatarView, ...]
    """Pictures to make it of."""
    test_views: tuple[AvatarView, ...]
    """Pictures to score it by; none where there are few."""
    names: tuple[str, ...]
    """Of the pictures, those held out last."""
    motion: BodyParams
    """The person's bodies in all frames of the clip, or in all pictures."""
    times_s: Float[np.ndarray, "T"] | None
    """When each frame of a clip is shown; None for photographs."""
    fps: float
    """Frames a second of a clip, 0 for photographs."""
    rows: tuple[int, ...] = ()
    """Which of the motion's bodies each picture shows, in the order of the names."""
    notes: tuple[str, ...] = ()
    """Sentences on pictures that were left out."""
    one_place: bool = True
    """Whether the light of all pictures is the same: photographs have lights of their own."""


def gather_views(
    found: Sequence[ResultFiles],
    *,
    detector: Detector | None,
    masks: Path | None = None,
    frames: int = 48,
    models: Models | None = None,
    crop: bool = True,
) -> AvatarMaterial:
    """Gather the views of one person from results of a clip, of a photograph, or of several photographs.

    detector: finds masks; not needed with `masks`, a folder of mask files (`MaskFiles`). frames: most frames of a clip
    that are used, spread evenly. crop: cut views to the person. A picture is used where more than 60 % of the projected
    body lies in the person's mask, the one of all masks that is most like the body, so that nobody else is mixed in;
    other people's masks count as unknown. Raises `OptionError` for results of several people, and where no picture can
    be used, `VideoError` for a clip that is not the one that was fitted, and `ImageError`.
    """
    models = Models() if models is None else models
    people = [_only(one) for one in found]
    model = _one_model(people, models)
    if any(one.is_clip for one in found):
        if len(found) > 1:
            raise OptionError(f"{found[0].name} and {found[1].name}: give one clip, or photographs")
        files = None if masks is None else ClipMasks(MaskFiles(masks), _source(found[0]))
        pictures, unused = _clip_pictures(found[0], people[0], frames)
        motion, times_s, fps = people[0].result.params, _times(found[0]), people[0].fps
    else:
        files = None if masks is None else MaskFiles(masks)
        motion, unused = _one_shape(people, model), Counter()
        pictures = ((k, row, _photograph(one)) for k, (one, row) in enumerate(zip(found, people, strict=True)))
        times_s, fps = None, 0.0
    views, names, rows, clip = [], [], [], found[0].is_clip
    for row, person, frame in pictures:
        name = frame.path.name if frame.path is not None and not clip else f"frame {frame.index}"
        at = PlacedBody.of_fit(model, motion.select([row]), person, row if clip else 0, number=0 if clip else row)
        view, reason = view_of(frame, at, detector, files, crop=crop)
        if view is None:
            unused[reason] += 1
        else:
            views.append(view)
            names.append(name)
            rows.append(row)
    if not views:
        raise OptionError(f"no picture of {people[0].file} can be used: {counted(unused)}")
    used = np.arange(len(views))
    out = moments_to_score(used)
    order = [*used[~out].tolist(), *used[out].tolist()]
    return AvatarMaterial(
        model=model,
        views=tuple(views[k] for k in used[~out]),
        test_views=tuple(views[k] for k in used[out]),
        names=tuple(names[k] for k in order),
        motion=motion,
        times_s=times_s,
        fps=fps,
        rows=tuple(rows[k] for k in order),
        notes=(f"left out: {counted(unused)}",) if unused else (),
        one_place=len(found) == 1,
    )


def moments_to_score(moments: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tell which pictures are held out: those of every sixth of their moments; of fewer than six none."""
    distinct, number = np.unique(moments, return_inverse=True)
    return (number % _EACH == _EACH // 2) & (len(distinct) >= _EACH)


def counted(unused: Counter[str]) -> str:
    """Say how many pictures are left out, and why."""
    return "; ".join(f"{count} {'picture' if count == 1 else 'pictures'} {why}" for why, count in unused.most_common())


def _only(found: ResultFiles) -> Person:
    """Return the one person of a picture or clip. Raises `OptionError` and `AssetError`."""
    people = found.people()
    if len(people) > 1:
        names = ", ".join(file.name for file in found.files)
        raise OptionError(f"{found.name} has {len(people)} people ({names}); give the file of one")
    (person,) = people
    if isinstance(person, Failure):
        raise OptionError(person.message)
    if not any(status.ok for status in person.result.status):
        raise OptionError(f"{person.file} has no body: {next(filter(None, person.result.reason), 'its fit failed')}")
    return person


def _one_model(people: Sequence[Person], models: Models) -> BodyModel:
    """Return the model of all fits. Raises `OptionError` where there are several."""
    named = {(one.result.model_name, one.result.gender) for one in people}
    if len(named) > 1:
        raise OptionError(f"the fits are of different models ({', '.join(' '.join(n) for n in sorted(named))})")
    return models.of(people[0].result)


def _source(found: ResultFiles) -> Path:
    if found.source is None:
        raise OptionError(f"nothing says which picture or clip {found.files[0]} is of; say where it is")
    return found.source


def _photograph(found: ResultFiles) -> Frame:
    return read_image(_source(found))


def _times(found: ResultFiles) -> Float[np.ndarray, "T"]:
    from bodyfit.io import load_track

    return load_track(found.files[0]).clock_s


def _one_shape(people: Sequence[Person], model: BodyModel) -> BodyParams:
    """Give the bodies of several photographs their mean shape, each as large in its picture as it was."""
    from bodyfit.avatars.posed import together

    params = together([one.result.params.select([0]) for one in people])
    betas = params.betas.mean(0, keepdim=True).expand_as(params.betas).contiguous()
    if bool(torch.equal(betas, params.betas)):
        return params
    before, after = (_height(model, b) for b in (params.betas, betas))
    scale = (after / before)[:, None]
    roots = [model.rest_joints(torch.nn.functional.pad(b, (0, 0)))[:, 0] for b in (params.betas, betas)]
    return BodyParams(**dict(params) | {"betas": betas, "transl": scale * (params.transl + roots[0]) - roots[1]})


def _height(model: BodyModel, betas: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
    joints = model.rest_joints(betas)
    return joints[..., 1].amax(1) - joints[..., 1].amin(1)


def _clip_pictures(
    found: ResultFiles, person: Person, frames: int
) -> tuple[Iterator[tuple[int, Person, Frame]], Counter[str]]:
    """List frames of a clip, spread over those with a good body; count the others. Raises `VideoError`."""
    status = person.result.status
    good = [k for k, s in enumerate(status) if s.ok and s not in (FitStatus.POOR, FitStatus.FILLED)]
    unused = Counter[str]()
    if poor := sum(s is FitStatus.POOR for s in status):
        unused["with a poor body"] = poor
    if not good:
        raise OptionError(f"{person.file}: none of its {len(status)} frames has a body to rely on")
    chosen = np.unique(np.linspace(0, len(good) - 1, min(frames, len(good))).round().astype(int))
    return _frames_of(found, person, [good[k] for k in chosen]), unused


def _frames_of(found: ResultFiles, person: Person, rows: Sequence[int]) -> Iterator[tuple[int, Person, Frame]]:
    """Read the frames of some rows. Raises `VideoError` where the clip is not that of the fit."""
    entry = found.entry.get("part") or {}
    source = _source(found)
    reader = VideoReader(source, fps=entry.get("fps") if source.is_dir() else None)
    size = person.result.camera.image_size
    if reader.full_size != size:
        (w, h), (tw, th) = reader.full_size, size
        raise VideoError(f"{source} is {w}x{h}, the fit was made in a clip of {tw}x{th}; give that clip")
    row_of = {int(person.frames[row]): row for row in rows}
    last, number = max(row_of), -1
    for frame in reader:
        number = frame.index
        if number in row_of:
            yield row_of[number], person, frame
        if number >= last:
            return
    raise VideoError(f"{source} ends with frame {number}, the fit has frames up to {last}; give the clip of the fit")
