"""Settings of a fit: typed, frozen, with defaults that suit a newcomer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from bodyfit.errors import OptionError
from bodyfit.fit.variables import Block
from bodyfit.solve import LMConfig

__all__ = ["Calibration", "FitConfig", "SequenceCalibration", "SequenceConfig", "StageConfig"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Weights of one stage. Each is squared in the objective; residuals of positions are in centimetres at the person.

    A picture's distances are turned into centimetres at the starting depth, so that no weight depends on resolution.
    """

    pose: float
    """The Gaussian mixture over body angles (half its Mahalanobis distance)."""
    shape: float
    """The betas."""
    pose_tail: float = math.inf
    """Where the mixture's cost turns from linear to logarithmic, in nats; infinite for a Gaussian's tails."""
    angle: float = 0.0
    """10 exp(+-angle) at elbows and knees, against bending backwards."""
    limits: float = 0.0
    """Radians beyond the joint limits."""
    interpenetration: float = 0.0
    """By how many centimetres the body's capsules overlap."""
    spheres: float = 0.0
    """SMPLify's own interpenetration term, overlap of small spheres inside the capsules."""
    lift: float = 0.0
    """Distance to a detector's 3D keypoints after both are centred, where there are any."""
    points: float = 1.0
    """Centimetres from measured 3D keypoints, where there are any."""
    height: float = 10.0
    """Centimetres from a known stature, where there is one: 2 mm count as much as the 2 cm that keypoints err by."""
    mass: float = 2.0
    """Kilograms from a known mass, where there is one: 1 kg counts as much as the 2 cm that keypoints err by."""
    previous: float = 20.0
    """Radians that body angles moved since the previous frame, where there is one: 0.1 rad counts as much as the 2 cm
    that keypoints err by."""
    sigma_cm: float = 100.0
    """Where the reprojection error saturates (Geman-McClure): SMPLify's 100 px on a person of 200 px is 85 cm."""
    lift_sigma_cm: float = 30.0
    """The same for the detector's 3D keypoints."""
    points_sigma_cm: float = 20.0
    """The same for measured 3D keypoints, of the whole distance."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of other residuals, by name: of one's own (`fit/residuals`), or of "reprojection", which is 1. A residual
    that is named nowhere weighs what its class says."""
    lm: LMConfig = field(default_factory=LMConfig)
    """When the stage ends."""

    def __post_init__(self) -> None:
        fixed = sorted(set(self.weights) & {f.name for f in fields(self)})
        if fixed:
            raise OptionError(f"{', '.join(fixed)} must be set by keyword, as StageConfig({fixed[0]}=...)")
        for name, value in self.weights.items():
            if not (math.isfinite(value) and value >= 0):
                raise OptionError(f"the weight of {name} must be a finite number of at least 0, got {value}")

    def weight(self, name: str, default: float) -> float:
        """The weight of a residual: the field of its name, else its entry in `weights`, else its class's."""
        own = getattr(self, name, None) if name in self.__dataclass_fields__ else None
        return float(own if own is not None else self.weights.get(name, default))


def _smplify_stages() -> tuple[StageConfig, ...]:
    """The published schedule (Bogo et al. 2016; REFERENCE: weights 404, 404, 57.4, 4.78 and 100, 50, 10, 5)."""
    schedule = ((404.0, 100.0, 0.0), (404.0, 50.0, 0.0), (57.4, 10.0, 1e3), (4.78, 5.0, 1e3))
    return tuple(
        StageConfig(pose=pose, shape=shape, angle=0.317 * pose, spheres=overlap) for pose, shape, overlap in schedule
    )


def _default_stages() -> tuple[StageConfig, ...]:
    quick = LMConfig(max_iterations=8, cost_tolerance=1e-2)
    return (
        StageConfig(pose=6.0, shape=10.0, angle=6.0, limits=50.0, lift=0.3, sigma_cm=60.0, lm=quick),
        StageConfig(pose=6.0, shape=7.0, angle=1.5, limits=50.0, lift=0.3, sigma_cm=40.0, lm=quick),
        StageConfig(
            pose=5.0,
            pose_tail=3.0,
            shape=4.0,
            angle=0.2,
            limits=50.0,
            interpenetration=0.3,
            lift=0.15,
            sigma_cm=30.0,
            lm=LMConfig(max_iterations=60, cost_tolerance=1e-4),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Factors of the variances that the objective's weights stand for, by group (`fit/quality/uncertainty.py`).

    Chosen so that on training clips joints are off by their deviations, over layouts, half bodies, with and without a
    lift, one camera and several (`scripts/bench/uncertainty.py`).
    """

    seen: float = 1.0
    """Of keypoints, a lift, measured points and every other term but the next two: bends, limits, capsules, a stature,
    the previous frame."""
    pose: float = 0.72
    """Of the pose mixture."""
    shape: float = 1.9
    """Of the betas' prior."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of `fit_keypoints`."""

    stages: tuple[StageConfig, ...] = field(default_factory=_default_stages)
    """From stiff to free."""
    hypotheses: int = 2
    """Starting orientations carried through the first stage; the lower objective goes on."""
    min_confidence: float = 0.1
    """Keypoints below are left out."""
    min_keypoints: int = 4
    """People with fewer usable keypoints are not fitted."""
    noise_cm: float = 2.0
    """How well a keypoint marks its point on the body: noise that goes with the person's size."""
    noise_px: float = 2.0
    """How well a detector can place a keypoint in the picture: noise that far people suffer from. Where it is worth
    more than `noise_cm`, keypoints count less against the priors, so that a far person is not fitted to noise."""
    swaps: bool = True
    """Whether sides that a detector may have mistaken (arms, legs, with a lift the whole body) are tried exchanged."""
    doubtful: float = 12.0
    """The objective by keypoint, square centimetres, beyond which people are tried so: about every second one."""
    components: bool = True
    """Whether people are tried from the mean pose of each component of the pose prior, too, not only from the mean."""
    doubtful_components: float = 20.0
    """As `doubtful`, for these."""
    pose_prior: Path | None = None
    """Another mixture in the layout of SMPLify's gmm_08.pkl (.pkl or .npz); None for the shipped one."""
    uncertainty: bool = True
    """Whether results say how sure they are: covariance and deviations of joints, for some per cent of the time."""
    calibration: Calibration = field(default_factory=Calibration)
    """What makes these deviations those that are seen."""
    blocks: tuple[Block, ...] = ()
    """Variables of one's own, for residuals of one's own to depend on (docs/extending.md)."""
    backend: str = "auto"
    """What the normal equations are made by: compiled loops on a CPU, torch's operations on any device, or, by "auto",
    loops where they can and operations elsewhere. Residuals without loops always take operations; `FitResult.backend`
    says what it was."""
    quality: bool = True
    """Whether fits that are not to be relied on get the status `poor` and a reason (`fit/quality/status.py`)."""
    hands: bool = True
    """Whether fingers are fitted, where the evidence shows hands and the model has fingers."""
    face: bool = True
    """Whether jaw, eyes and expression are, where it shows a face and the model has them."""
    batch_size: int = 256
    """People fitted at once; larger batches are split, so that memory stays bounded."""

    def __post_init__(self) -> None:
        for name in ("hypotheses", "min_keypoints", "batch_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.stages:
            raise OptionError("stages must hold at least one StageConfig")
        if self.backend not in ("auto", "loops", "tensors"):
            raise OptionError(f"backend must be 'auto', 'loops' or 'tensors', got {self.backend!r}")

    @classmethod
    def smplify(cls) -> FitConfig:
        """The weights, robustifier and schedule of the SMPLify paper."""
        return cls(stages=_smplify_stages(), swaps=False, components=False)


@dataclass(frozen=True, kw_only=True)
class SequenceCalibration:
    """Factors of variances in a clip, beyond those of `Calibration`: detector and pose prior err partly alike from
    frame to frame, so that many frames say less than as many independent ones (`fit/sequence/uncertainty.py`).
    Chosen on training clips (`scripts/bench/uncertainty.py --tracks`)."""

    seen: float = 2.5
    """Of keypoints and all other evidence, in how frames differ from each other."""
    alike: float = 0.05
    """Of evidence, in what all frames share: the part of the variance that is the same in every frame."""
    pose: float = 2.0
    """Of the pose mixture."""


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Settings of `fit_sequence` beyond those of single frames (`FitConfig`)."""

    motion: float = 0.9
    """Weight of the accelerations, squared in the objective; 1 makes a typical acceleration cost as much as one
    keypoint that is a centimetre off."""
    motion_tail: float = 2.0
    """Where the price of an acceleration grows no longer by its square, in typical accelerations squared."""
    shape: float = 1.5
    """Weight of the betas' prior in each frame: what keypoints err by is much the same in all frames of a clip, so that
    more frames say little more of the shape."""
    focal: float = 2.0
    """Weight of the focal length's prior in each frame that it is found from: of the logarithm of its ratio to the
    guess. Fields of view from 40 to 75 degrees are a deviation of 0.3; as for the shape, what keypoints err by is much
    the same in all frames."""
    focal_frames: int = 0
    """From so many frames of a track the focal length is found where none is given; 0 for the guess. 32 are enough; the
    detector's errors leave the answer 15 % off at best (docs/sequence.md)."""
    pose_tail: float = 2 / 3
    """Where the mixture's cost turns logarithmic, in parts of what it is for single frames: what the prior says of an
    odd pose, the frames about it say better."""
    interpenetration: float = 2.0
    """Its weight, in parts of that for single frames."""
    keyframe_s: float = 0.13
    """Every so often a frame is fitted by itself, to start from."""
    keyframe_lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=10, cost_tolerance=1e-2))
    """When the last stage of these fits ends."""
    window: int = 512
    """Frames that are solved at once; longer tracks go window by window, so that memory stays bounded."""
    overlap: int = 32
    """Frames of the next window that a window looks at."""
    lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=15, cost_tolerance=1e-3))
    """When the optimisation ends."""
    calibration: SequenceCalibration = field(default_factory=SequenceCalibration)
    """What makes deviations of clips those that are seen (`FitConfig.uncertainty`)."""
    covariance: bool = True
    """Whether results keep the covariance of each frame, 29 kB a frame; deviations of joints are there all the same."""

    def __post_init__(self) -> None:
        if self.window < 4 or not 0 <= self.overlap <= self.window - 4:
            raise OptionError(
                f"window must be at least 4 frames and overlap at most 4 less, got {self.window}, {self.overlap}"
            )
