"""The SMPLify objective of one stage for a batch of people, as a problem for the Levenberg-Marquardt solver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points, PosedTree
from bodyfit.body.pose_prior import PosePrior
from bodyfit.errors import OptionError
from bodyfit.fit.assembly import tensors
from bodyfit.fit.assembly.compiled import CompiledTerms, Loops
from bodyfit.fit.assembly.tensors import Weighted
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals import RESIDUALS, Residual, VariableResidual
from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.fit.residuals.stature import HeightTerm
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Block, Variables
from bodyfit.solve import Normal

__all__ = ["BodyTerms", "Observations", "StageObjective", "fix"]


class BodyTerms:
    """Residuals of a fit for a model, a keypoint layout, a prior and a table of variables, shared by all stages."""

    def __init__(
        self,
        model: BodyModel,
        points: Points,
        prior: PosePrior,
        points3d: Points | None = None,
        *,
        blocks: Iterable[Block] = (),
        backend: str = "auto",
        hands: Points | None = None,
        face: Points | None = None,
    ) -> None:
        whole = hands is not None or face is not None
        layout = Variables.of(model, blocks, whole=whole)
        self.setup = Setup(model, points, points if points3d is None else points3d, prior, layout, hands, face)
        self.model, self.points, self.points3d, self.layout = model, points, self.setup.points3d, layout
        self.backend = backend
        self.loops = Loops(self.setup)
        self._residuals: dict[str, Residual] = {}

    def with_blocks(self, *blocks: Block) -> BodyTerms:
        """Return a copy with additional blocks of variables; what residuals have precomputed is shared."""
        setup = self.setup
        whole = setup.hands is not None or setup.face is not None
        extra = [block for block in self.layout.blocks if block.name not in Variables.of(self.model, whole=whole)]
        more = {"blocks": (*extra, *blocks), "backend": self.backend, "hands": setup.hands, "face": setup.face}
        terms = BodyTerms(self.model, self.points, setup.prior, setup.points3d, **more)
        if not whole:  # those of hands and faces have tables of columns
            terms._residuals = self._residuals
        return terms

    def applies(self, name: str, seen: Observations) -> bool:
        """Tell whether a residual has observations, and all the variables that it depends on."""
        kind = RESIDUALS.get(name)
        if kind is not None and issubclass(kind, VariableResidual) and any(b not in self.layout for b in kind.blocks):
            return False
        return self.residual(name).applies(seen)

    def residual(self, name: str) -> Residual:
        """Return the residual of a name for this setup, which is made at the first call.

        Raises `OptionError` for a name that is not registered.
        """
        if name not in RESIDUALS:
            raise OptionError(f"there is no residual {name}; there are {', '.join(RESIDUALS)}")
        residual = self._residuals.get(name)
        if residual is None or type(residual) is not RESIDUALS[name]:
            residual = self._residuals[name] = RESIDUALS[name].of(self.setup)
        return residual

    @property
    def mixture(self) -> MixturePrior:
        """The pose prior."""
        found = self.residual(MixturePrior.name)
        assert isinstance(found, MixturePrior)
        return found

    @property
    def height(self) -> HeightTerm:
        """The residual of a known height."""
        found = self.residual(HeightTerm.name)
        assert isinstance(found, HeightTerm)
        return found


@dataclass(frozen=True)
class StageObjective:
    """Weighted sum of squares of all residuals in one stage; implements `solve.Problem`."""

    terms: BodyTerms
    stage: StageConfig
    seen: Observations

    def select(self, index: Tensor) -> StageObjective:
        """Select people by index or mask."""
        some = StageObjective(self.terms, self.stage, self.seen.select(index))
        # They have the same residuals.
        some.__dict__["weights"] = self.weights
        return some

    @cached_property
    def weights(self) -> dict[str, float]:
        """Weights (not squared) of the residuals in the sum, by name."""
        found = {}
        for name, kind in RESIDUALS.items():
            weight = self.stage.weight(name, kind.weight)
            if weight > 0 and self.terms.applies(name, self.seen):
                found[name] = weight
        return found

    @property
    def fixed(self) -> tuple[slice, ...]:
        """Columns of the variables that are not optimised."""
        layout = self.terms.layout
        return (*layout.fixed, *(layout[name] for name in self.seen.fixed))

    def normal(self, x: Float[Tensor, "B D"]) -> Normal:
        """Compute the cost, J^T r and J^T J at x.

        On a CPU compiled loops add the residuals that have one, and torch the others; elsewhere torch adds all
        (`reference`).
        """
        if not self._by_loops(x):
            return self.reference(x)
        normal = self.terms.loops.normal(x, self._arrays)
        if self._without_loops:
            normal = tensors.add_to(normal, self.terms.setup, self._without_loops, x, self.seen, self.stage)
        return fix(normal, self.fixed)

    def reference(self, x: Float[Tensor, "B D"]) -> Normal:
        """Compute `normal` by torch alone, on any device."""
        residuals = self._weighted(self.weights)
        return fix(tensors.normal(self.terms.setup, residuals, x, self.seen, self.stage), self.fixed)

    def _by_loops(self, x: Float[Tensor, "B D"]) -> bool:
        backend = self.terms.backend
        if backend == "tensors":
            return False
        able = self.terms.loops.take(x, self.seen)
        if backend == "loops" and not able:
            raise OptionError(
                f"backend 'loops' takes people on a CPU in the model's type, without a graph; got {x.dtype} on"
                f" {x.device}: move the model to the CPU, or leave backend at 'auto'"
            )
        return able

    def backend(self, x: Float[Tensor, "B D"]) -> str:
        """Name the backend of `normal` at x: "loops", "tensors" or "loops and tensors"."""
        if not self._by_loops(x):
            return "tensors"
        return "loops and tensors" if self._without_loops else "loops"

    @cached_property
    def _arrays(self) -> CompiledTerms:
        weights = {name: self.weights[name] for name in self._looped}
        return self.terms.loops.terms(self.terms.residual, weights, self.seen, self.stage)

    @cached_property
    def _looped(self) -> list[str]:
        """List the residuals that loops add; of centred ones only the first, for which the loops have room."""
        found, centred = [], False
        for name in self.weights:
            residual = self.terms.residual(name)
            if residual.loop is None or not residual.has_loops(self.terms.setup):
                continue
            if residual.loop.place != "centred" or not centred:
                found.append(name)
            centred = centred or residual.loop.place == "centred"
        return found

    @cached_property
    def _without_loops(self) -> list[Weighted]:
        return self._weighted(name for name in self.weights if name not in self._looped)

    def _weighted(self, names: Iterable[str]) -> list[Weighted]:
        return [Weighted(self.terms.residual(name), self.weights[name]) for name in names]

    def add_hessian(self, hessian: Float[Tensor, "B D D"], name: str, factor: float, x: Float[Tensor, "B D"]) -> None:
        """Add the unweighted J^T J of one residual at x, times a factor of any sign, in place."""
        tensors.add_hessian(hessian, self.terms.setup, self.terms.residual(name), factor, x, self.seen, self.stage)

    def hessian_of(self, name: str, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """Compute the weighted J^T J of one residual at x."""
        return tensors.normal(self.terms.setup, self._weighted([name]), x, self.seen, self.stage).hessian

    def vector_of(self, name: str, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R D"]]:
        """Compute one weighted residual vector, whose square is its cost, and its Jacobian at x."""
        return tensors.vector(self.terms.setup, self._weighted([name])[0], x, self.seen, self.stage)

    def tree(self, x: Float[Tensor, "B D"]) -> PosedTree:
        """Compute forward kinematics of the body at x."""
        return tensors.posed(self.terms.setup, x)


def fix(normal: Normal, where: Iterable[slice]) -> Normal:
    """Fix some variables at their values, in place: zero gradient and coupling, unit diagonal."""
    for columns in where:
        normal.gradient[:, columns] = 0
        normal.hessian[:, columns, :] = 0
        normal.hessian[:, :, columns] = 0
        normal.hessian[:, columns, columns].diagonal(dim1=1, dim2=2).fill_(1)
    return normal
