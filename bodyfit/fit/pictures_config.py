"""Settings of fits of pictures that share a shape, for tight and for loose clothes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bodyfit.body.anthropometry.intervals import MeasurementError
from bodyfit.errors import OptionError
from bodyfit.fit.config import SequenceCalibration, SequenceConfig, SilhouetteConfig
from bodyfit.solve import LMConfig

__all__ = ["CLOTHES", "LOOSE_CM", "PicturesConfig"]

CLOTHES = ("tight", "loose")
"""What people may wear: tight is for nothing, too."""
LOOSE_CM = {
    **{"pelvis": 0.7, "spine1": 1.6, "spine2": 0.5},
    **{
        f"{side}_{part}": cm for side in ("left", "right") for part, cm in (("hip", 0.7), ("knee", 0.7), ("ankle", 0.5))
    },
    **{f"{side}_{part}": cm for side in ("left", "right") for part, cm in (("shoulder", 0.1), ("elbow", 0.3))},
}
"""How thick loose clothes are in the mean, centimetres, by the joint that moves the skin below them: what girths of
dressed people come out too large by (`scripts/bench/shape.py --clothed`), over 2 pi."""
_LOOSE_WEIGHT, _LOOSE_SHAPE = 2.0, 3.5
"""Weights of silhouettes and of the prior of the betas then: clothes are as thick as they are, not as expected."""

_BY_SILHOUETTES = MeasurementError(
    factor=0.67,
    share={
        **{"mass": 0.020, "chest": 0.025, "waist": 0.0087, "hip": 0.0040, "neck": 0.014, "upper_arm": 0.041},
        **{"thigh": 0.0086, "arm_length": 0.0057, "leg_length": 0.0034, "inseam": 0.0062, "shoulder_breadth": 0.032},
    },
)
_BY_LOOSE_SILHOUETTES = MeasurementError(
    factor=0.85,
    share={
        **{"mass": 0.085, "chest": 0.043, "waist": 0.052, "hip": 0.041, "neck": 0.034, "upper_arm": 0.067},
        **{"thigh": 0.048, "arm_length": 0.0093, "leg_length": 0.0032, "inseam": 0.0081, "shoulder_breadth": 0.037},
    },
)
_BY_KEYPOINTS = MeasurementError(
    factor=0.66,
    share={
        **{"mass": 0.17, "chest": 0.053, "waist": 0.13, "hip": 0.078, "neck": 0.053, "upper_arm": 0.051},
        **{"thigh": 0.073, "arm_length": 0.012, "leg_length": 0.015, "inseam": 0.018, "shoulder_breadth": 0.049},
    },
)


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """Settings of pictures that share a shape, beyond those of single pictures (`FitConfig`)."""

    keypoints: SequenceConfig = field(
        default_factory=lambda: SequenceConfig(
            motion=0.0,
            pose_tail=1.0,
            interpenetration=1.0,
            lm=LMConfig(max_iterations=40, cost_tolerance=1e-4),
            calibration=SequenceCalibration(seen=1.0, alike=0.25, pose=1.0),
        )
    )
    """Settings of the fit to keypoints: as for a clip, without a motion."""
    silhouette: SilhouetteConfig = field(
        default_factory=lambda: SilhouetteConfig(weight=4.0, clothing_cm=0.0, hair_cm=30.0, sigma_cm=3.0, rounds=6)
    )
    """Silhouettes: of people in tight clothes or none, whose outline is known to some millimetres."""
    reprojection: float = 0.3
    """Weight of the keypoints beside silhouettes: detectors place joints of stout people where those of slim ones are,
    and the shape would follow."""
    shape: float = 2.0
    """Weight of the prior of the betas beside silhouettes, once for all pictures: errors of masks differ from view to
    view, so that more of them tell more."""
    clothing_cm: Mapping[str, float] = field(default_factory=dict)
    """How far the body is expected to lie inside the silhouette, for clothes, by joints, centimetres; 0 for others."""
    last: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=15, cost_tolerance=1e-4))
    """Stopping criteria of the last round of silhouettes."""
    by_silhouettes: MeasurementError = _BY_SILHOUETTES
    """Calibration of intervals of measurements with silhouettes (`scripts/bench/shape.py --seed 1000 --calibrate`)."""
    by_keypoints: MeasurementError = _BY_KEYPOINTS
    """The same where no picture has a silhouette."""

    @classmethod
    def of_clothes(cls, clothes: str) -> PicturesConfig:
        """Make the settings for people in "tight" clothes or none, or in "loose" ones. Raises `OptionError`."""
        tight = cls()
        if clothes not in CLOTHES:
            raise OptionError(f"clothes must be one of {', '.join(CLOTHES)}, got {clothes!r}")
        if clothes == "tight":
            return tight
        silhouette = replace(tight.silhouette, weight=_LOOSE_WEIGHT)
        more = {"clothing_cm": LOOSE_CM, "by_silhouettes": _BY_LOOSE_SILHOUETTES}
        return cls(silhouette=silhouette, shape=_LOOSE_SHAPE, **more)
