"""Settings of a radiance field and its training."""

from __future__ import annotations

from dataclasses import dataclass, field

from bodyfit.errors import OptionError
from bodyfit.fields.casting.cast import CastConfig

__all__ = ["RadianceConfig"]


@dataclass(frozen=True, kw_only=True)
class RadianceConfig:
    """How a radiance field is sampled, stored and trained."""

    cast: CastConfig = field(default_factory=lambda: CastConfig(loose_m=0.08))
    """Samples along rays."""
    nodes_m: tuple[float, ...] = (0.024, 0.008)
    """Distances of the grids' nodes, metres, one a level."""
    density_per_m: float | int = 100.0
    """Density is this times softplus(logit + bias)."""
    density_bias: float | int = -3.0
    """What is added to density logits."""
    start_logit: float | int = 6.0
    """Density logit inside the body at the start, 0 outside: a logistic of the signed distance."""
    start_width_m: float | int = 0.004
    """Scale of that logistic, metres."""
    passes: float | int = 1.5
    """How often each ray is drawn in training; twice as often changes nothing (0.05 dB) for a hundred pictures."""
    batch_rays: int = 2048
    """Rays of a step."""
    run_rays: int = 16
    """Rays of a batch come in runs of so many neighbours of a row, which share nodes."""
    density_rate: float | int = 0.3
    """Adam's rate of density logits; rates fall to `last_rate` of themselves."""
    albedo_rate: float | int = 0.2
    """Adam's rate of albedo logits."""
    light_rate: float | int = 0.01
    """Adam's rate of the light, of gains and of offsets."""
    last_rate: float | int = 0.05
    """Part of the rates that is left at the end."""
    mask_weight: float | int = 0.3
    """Weight of (opacity - mask)^2 of a ray, beside the mean squared error of its colour."""
    haze_weight: float | int = 0.01
    """Weight of opacity (1 - opacity) of a ray: half-transparent ones cost."""
    density_variation: float | int = 2e-5
    """Weight of differences of density logits of neighbours in the finest level, beside the losses of a batch."""
    albedo_variation: float | int = 3e-6
    """Weight of differences of albedo logits of neighbours in the finest level."""
    fall: float | int = 3e-6
    """Weight of density logits outside of the body: what no ray asks for becomes empty."""
    background: tuple[float, float, float] | None = None
    """The one colour that is behind the person in all pictures, in [0, 1]; if left out, the person is cut out by the
    masks and laid over random greys."""
    seed: int = 0
    """Of the order of rays, their backgrounds and their offsets."""

    def __post_init__(self) -> None:
        if not (self.passes > 0 and self.batch_rays >= self.run_rays >= 1):
            raise OptionError("a radiance field needs passes > 0 and batch_rays >= run_rays >= 1")
        if not (self.density_per_m > 0 and self.start_width_m > 0):
            raise OptionError("a radiance field needs a positive density_per_m and start_width_m")
