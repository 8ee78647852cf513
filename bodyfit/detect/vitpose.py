"""ViTPose (Xu et al. 2022) through transformers, on the boxes that another detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodyfit.detect.base import Detector
from bodyfit.detect.topdown import BoxFinder, layout_of, person_from
from bodyfit.errors import DetectorError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.runtime.environment import environment

__all__ = ["VitposeDetector"]

_DEFAULT = "usyd-community/vitpose-base-simple"


class VitposeDetector:
    """Top-down keypoints by a vision transformer's heat maps."""

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        boxes: Detector | None = None,
        max_people: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`weights` is a folder that `save_pretrained` wrote or a name on the model hub, which transformers downloads;
        safetensors only, for other files could run code. `boxes` finds the people, by default bodyfit's own detector.
        Raises `DetectorError`.
        """
        self._name = str(weights or _DEFAULT)
        self._model, self._processor = _load(self._name)
        self._model = self._model.to(device).eval()
        self._layout = layout_of(self._model.config.num_labels, f"ViTPose {self._name}")
        self._boxes = BoxFinder(boxes, max_people=max_people)

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, in the order of the boxes; no lift."""
        return [self._people(frame, found) for frame, found in zip(frames, self._boxes(frames), strict=True)]

    @torch.inference_mode()
    def _people(self, frame: Frame, found: list[tuple[np.ndarray, float]]) -> list[Keypoints2D]:
        if not found:
            return []
        # COCO's boxes: first corner, width, height; the processor puts 1.25 times the box into the network.
        coco = np.stack([(*(box[:2] - 0.5), *(box[2:] - box[:2])) for box, _ in found])
        inputs = self._processor(frame.image, boxes=[coco], return_tensors="pt").to(self._model.device)
        if self._model.config.backbone_config.num_experts > 1:  # ViTPose+: expert 0 is COCO's
            inputs["dataset_index"] = torch.zeros(len(found), dtype=torch.int64, device=self._model.device)
        poses = self._processor.post_process_pose_estimation(self._model(**inputs), boxes=[coco])[0]
        return [
            person_from(self._layout, np.asarray(pose["keypoints"]), np.asarray(pose["scores"]).ravel(), box, score)
            for pose, (box, score) in zip(poses, found, strict=True)
        ]


def _load(name: str) -> tuple[Any, Any]:
    try:
        with environment(HF_HUB_DISABLE_TELEMETRY="1"):
            from transformers import (  # pyright: ignore[reportMissingImports]
                AutoProcessor,
                VitPoseForPoseEstimation,
            )
    except ImportError:
        raise DetectorError("vitpose needs transformers: pip install 'bodyfit[vitpose]'") from None
    try:
        model = VitPoseForPoseEstimation.from_pretrained(name, use_safetensors=True)
        return model, AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # whatever the hub, the disk or the files lack
        raise DetectorError(
            f"ViTPose {name} cannot be loaded ({str(error)[:300]}); offline, give a folder with config.json, "
            "preprocessor_config.json and model.safetensors: detector='vitpose:FOLDER'"
        ) from error
