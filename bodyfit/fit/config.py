"""Settings of a fit: typed, frozen, with defaults that suit a newcomer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from bodyfit.errors import OptionError
from bodyfit.fit.variables import Block
from bodyfit.solve import LMConfig

__all__ = ["Calibration", "FitConfig", "SequenceCalibration", "SequenceConfig", "SilhouetteConfig", "StageConfig"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Weights of the residuals in one stage of the optimisation.

    Weights are squared in the objective. Residuals of positions are in centimetres at the person: image distances are
    scaled by the starting depth, so that no weight depends on the resolution.
    """

    pose: float
    """Gaussian mixture prior of the body pose (half the squared Mahalanobis distance)."""
    shape: float
    """Prior of the betas, in standard deviations."""
    pose_tail: float = math.inf
    """Cost of the mixture, in nats, beyond which it grows logarithmically; infinite for a Gaussian's tails."""
    conditional: float = 0.0
    """Conditional pose prior: nats of what a network expects of each joint, given the keypoints, for each centimetre
    that the keypoints err by (`fit/conditional.py`)."""
    angle: float = 0.0
    """Prior of elbows and knees against bending backwards: 10 exp(+-angle)."""
    limits: float = 0.0
    """Joint limits: radians beyond them."""
    interpenetration: float = 0.0
    """Overlap of the body's capsules, centimetres."""
    spheres: float = 0.0
    """SMPLify's interpenetration term: overlap of spheres inside the capsules."""
    lift: float = 0.0
    """Distance to a detector's 3D keypoints after both are centred, centimetres; if there are any."""
    points: float = 1.0
    """Distance to measured 3D keypoints, centimetres; if there are any."""
    height: float = 10.0
    """Difference from a given height, centimetres: 2 mm cost as much as a keypoint's error of 2 cm."""
    mass: float = 2.0
    """Difference from a given mass, kilograms: 1 kg costs as much as a keypoint's error of 2 cm."""
    previous: float = 20.0
    """Change of the pose since the previous frame, radians: 0.1 rad costs as much as a keypoint's error of 2 cm."""
    sigma_cm: float = 100.0
    """Scale of the robustifier (Geman-McClure) of the reprojection error. SMPLify's 100 px on a person of 200 px is
    85 cm."""
    lift_sigma_cm: float = 30.0
    """Scale of the robustifier of a detector's 3D keypoints."""
    points_sigma_cm: float = 20.0
    """Scale of the robustifier of measured 3D keypoints, of the whole distance."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of other residuals by name: "reprojection" (default 1), or registered ones (docs/extending.md). Residuals
    without an entry have their class's default weight."""
    lm: LMConfig = field(default_factory=LMConfig)
    """Stopping criteria of the stage."""

    def __post_init__(self) -> None:
        fixed = sorted(set(self.weights) & {f.name for f in fields(self)})
        if fixed:
            raise OptionError(f"{', '.join(fixed)} must be set by keyword, as StageConfig({fixed[0]}=...)")
        for name, value in self.weights.items():
            if not (math.isfinite(value) and value >= 0):
                raise OptionError(f"the weight of {name} must be a finite number of at least 0, got {value}")

    def weight(self, name: str, default: float) -> float:
        """Return the weight of a residual: the field of its name, else its entry in `weights`, else `default`."""
        own = getattr(self, name, None) if name in self.__dataclass_fields__ else None
        return float(own if own is not None else self.weights.get(name, default))


def _smplify_stages() -> tuple[StageConfig, ...]:
    """Make the published schedule (Bogo et al. 2016; REFERENCE: weights 404, 404, 57.4, 4.78 and 100, 50, 10, 5)."""
    schedule = ((404.0, 100.0, 0.0), (404.0, 50.0, 0.0), (57.4, 10.0, 1e3), (4.78, 5.0, 1e3))
    return tuple(
        StageConfig(pose=pose, shape=shape, angle=0.317 * pose, spheres=overlap) for pose, shape, overlap in schedule
    )


def _default_stages() -> tuple[StageConfig, ...]:
    common = StageConfig(pose=6.0, shape=10.0, conditional=0.9, limits=50.0, lift=0.3)
    quick = LMConfig(max_iterations=8, cost_tolerance=1e-2)
    return (
        replace(common, angle=6.0, sigma_cm=60.0, lm=quick),
        replace(common, shape=7.0, angle=1.5, sigma_cm=40.0, lm=quick),
        replace(
            common,
            pose=5.0,
            pose_tail=3.0,
            shape=4.0,
            angle=0.2,
            interpenetration=0.3,
            lift=0.15,
            sigma_cm=30.0,
            lm=LMConfig(max_iterations=60, cost_tolerance=1e-4),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Factors of the variances that the objective's weights imply, by residual group (`fit/quality/uncertainty.py`).

    Calibrated on training clips so that joint errors match their standard deviations, over layouts, half bodies, with
    and without a lift, with one camera and several (`scripts/bench/uncertainty.py`).
    """

    seen: float = 1.0
    """Factor for keypoints, lift, measured points and all residuals but the next two."""
    pose: float = 0.72
    """Factor for the mixture prior of the pose."""
    shape: float = 1.9
    """Factor for the prior of the betas."""


@dataclass(frozen=True, kw_only=True)
class SilhouetteConfig:
    """Settings of silhouettes, for people who have a mask (`Evidence.masks`)."""

    weight: float = 3.0
    """Weight of the distances between the body's contour and the mask's edge, squared in the objective: ten centimetres
    of contour that are a centimetre off cost as much as a keypoint's error of 3 cm. 0 leaves masks out."""
    clothing_cm: float = 2.0
    """How far the body may lie inside of the mask at no cost, for what clothes take; 0 for bare or tight."""
    hair_cm: float = 4.0
    """The same of the head; 0 for none."""
    sigma_cm: float = 6.0
    """Scale of the robustifier (Geman-McClure) of these distances: skirts and bags are farther off."""
    points: int = 256
    """Most pairs of points for each camera."""
    rounds: int = 4
    """How often the pairs are found anew."""
    lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=4, cost_tolerance=1e-3))
    """Stopping criteria of each round."""

    def __post_init__(self) -> None:
        for name in ("weight", "clothing_cm", "hair_cm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be a finite number of at least 0, got {value}")
        for name in ("points", "rounds"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.sigma_cm > 0:
            raise OptionError(f"sigma_cm must be positive, got {self.sigma_cm}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of `fit_keypoints`."""

    stages: tuple[StageConfig, ...] = field(default_factory=_default_stages)
    """Stages of the optimisation, in order: priors weigh less from stage to stage."""
    hypotheses: int = 2
    """Number of starting orientations optimised in the first stage; the one of lowest cost is continued. That of the
    conditional pose prior is one of them."""
    min_confidence: float = 0.1
    """Keypoints of a lower confidence are ignored."""
    min_keypoints: int = 4
    """People with fewer usable keypoints are not fitted."""
    noise_cm: float = 2.0
    """Standard deviation of a keypoint about its point on the body, which scales with the person's size."""
    noise_px: float = 2.0
    """Standard deviation of a detected keypoint in the image. Where it exceeds `noise_cm`, at small people, keypoints
    weigh less against the priors."""
    swaps: bool = True
    """Try left-right exchanges of the keypoints of arms, of legs and, with a lift, of the whole body."""
    doubtful: float = 12.0
    """Objective per keypoint (square centimetres) above which exchanges are tried: about every second person. With
    expectations of the conditional pose prior a third more, for they are a part of it."""
    components: bool = True
    """Try the mean pose of each component of the pose prior as a start, beside the overall mean."""
    doubtful_components: float = 20.0
    """Objective per keypoint (square centimetres) above which these starts are tried; with expectations of the
    conditional pose prior, which are a start themselves, twice as much."""
    pose_prior: Path | None = None
    """File of a mixture with the arrays of SMPLify's gmm_08.pkl (.pkl or .npz); None for the shipped one."""
    conditional_prior: Path | None = None
    """File of the conditional pose prior (scripts/train/pose_prior.py); None for the shipped one."""
    uncertainty: bool = True
    """Compute the covariance of variables and the standard deviations of joints, for a few per cent of the time."""
    calibration: Calibration = field(default_factory=Calibration)
    """Factors that calibrate these deviations."""
    blocks: tuple[Block, ...] = ()
    """Additional variables for registered residuals (docs/extending.md)."""
    backend: str = "auto"
    """How normal equations are assembled: "loops" (compiled, CPU), "tensors" (torch, any device) or "auto" (loops where
    possible). Residuals without a loop always use torch; `FitResult.backend` has what was used."""
    quality: bool = True
    """Check fits and give unreliable ones the status `poor` with a reason (`fit/quality/status.py`)."""
    hands: bool = True
    """Fit fingers, if the evidence includes hands and the model has fingers."""
    face: bool = True
    """Fit jaw, eyes and expression, if the evidence includes a face and the model has them."""
    silhouette: SilhouetteConfig = field(default_factory=SilhouetteConfig)
    """Settings of silhouettes, for people who have a mask."""
    batch_size: int = 256
    """People optimised at once: larger batches are split, which bounds memory."""

    def __post_init__(self) -> None:
        for name in ("hypotheses", "min_keypoints", "batch_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.stages:
            raise OptionError("stages must hold at least one StageConfig")
        if self.backend not in ("auto", "loops", "tensors"):
            raise OptionError(f"backend must be 'auto', 'loops' or 'tensors', got {self.backend!r}")

    @classmethod
    def without_conditional_prior(cls) -> FitConfig:
        """Make the default configuration without the conditional pose prior (docs/learned-prior.md)."""
        return cls(stages=tuple(replace(stage, conditional=0.0) for stage in _default_stages()))

    @classmethod
    def smplify(cls) -> FitConfig:
        """Make the configuration of the SMPLify paper: its weights, robustifier and schedule."""
        return cls(stages=_smplify_stages(), swaps=False, components=False)


@dataclass(frozen=True, kw_only=True)
class SequenceCalibration:
    """Factors of variances in a clip, beyond those of `Calibration`.

    Errors of detector and pose prior correlate between frames, so that frames carry less information than as many
    independent ones (`fit/sequence/uncertainty.py`). Calibrated on training clips
    (`scripts/bench/uncertainty.py --tracks`).
    """

    seen: float = 2.5
    """Factor for keypoints and all other evidence, in the differences between frames."""
    alike: float = 0.05
    """Share of the evidence's variance that is common to all frames."""
    pose: float = 2.0
    """Factor for the mixture prior of the pose."""


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Settings of `fit_sequence` beyond those of single frames (`FitConfig`)."""

    motion: float = 0.9
    """Weight of the accelerations, squared in the objective: at 1, a typical acceleration costs as much as a keypoint's
    error of 1 cm."""
    motion_tail: float = 2.0
    """Squared acceleration, in typical ones, beyond which its cost grows more slowly."""
    shape: float = 1.5
    """Weight of the prior of the betas in each frame: keypoint errors correlate over a clip, so that more frames add
    little information about the shape."""
    estimated_shape: float = 4.0
    """The same where frames have another program's estimates, if it is more: their errors last, limbs that are turned
    alike in every frame look like limbs of another length, and more frames do not tell the one from the other."""
    focal: float = 2.0
    """Weight of the focal length's prior in each frame that it is estimated from, on the logarithm of its ratio to the
    default. Fields of view from 40 to 75 degrees are a standard deviation of 0.3; keypoint errors correlate over
    frames, as for the shape."""
    focal_frames: int = 0
    """Number of frames of a track from which an unknown focal length is estimated; 0 for the default. 32 are enough; a
    detector's errors leave the estimate 15 % off at best (docs/sequence.md)."""
    pose_tail: float = 2 / 3
    """Factor of `StageConfig.pose_tail`: neighbouring frames tell more of an unusual pose than the prior."""
    conditional: float = 2 / 3
    """Factor of the weight of the conditional pose prior. Expectations of many frames err alike, and so do keypoints,
    which they weigh against; where keypoints are exact, expectations weigh nothing (`fit/conditional.py`)."""
    interpenetration: float = 2.0
    """Factor of the weight of interpenetration."""
    silhouette: float = 1 / 3
    """Factor of the weight of silhouettes: errors of masks correlate over a clip, and many frames tell of one shape."""
    keyframe_s: float = 0.13
    """Interval of the frames that are first fitted alone, to start from, seconds."""
    keyframe_lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=10, cost_tolerance=1e-2))
    """Stopping criteria of the last stage of these fits."""
    window: int = 512
    """Frames that are solved at once: longer tracks are solved window by window, which bounds memory."""
    overlap: int = 32
    """Frames of the next window that a window includes."""
    lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=15, cost_tolerance=1e-3))
    """Stopping criteria of the optimisation."""
    calibration: SequenceCalibration = field(default_factory=SequenceCalibration)
    """Factors that calibrate the standard deviations in clips (`FitConfig.uncertainty`)."""
    covariance: bool = True
    """Keep the covariance of each frame, 29 kB a frame (160 kB with hands and face); standard deviations of joints are
    kept in any case."""

    def __post_init__(self) -> None:
        if self.window < 4 or not 0 <= self.overlap <= self.window - 4:
            raise OptionError(
                f"window must be at least 4 frames and overlap at most 4 less, got {self.window}, {self.overlap}"
            )
