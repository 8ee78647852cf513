"""Laws of exchanged sides: mistakes of a detector are found, people who are seen rightly stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from test_fit import FOCAL, LAYOUT, PEOPLE, SAME, SIZE, apart, bodies, fit, pa_mm, see

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.initialise.descent import from_components
from bodyfit.fit.initialise.left_right import SWAPS, agreeing_lift, exchanges
from bodyfit.fit.result import FitResult, FitStatus, split
from bodyfit.skeleton import LAYOUTS, layout_names, mirrored_rows

NEAR = 0.03
"""Metres: a fit comes from elsewhere and stops where its objective falls by less than 1e-4 of it, and what is expected
of it weighs by the noise that the stages before left."""
WRONG = {"arms": (1, 7), "legs": (0,), "body": (2, 9)}
"""Whose sides are mistaken, so that the keypoints cannot be explained by a likely pose."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exchanges_undo_themselves_and_keep_the_middle(layout):
    names, rows = layout_names(layout), torch.arange(len(layout_names(layout)))
    for swap, order in zip(SWAPS, exchanges(layout), strict=True):
        assert torch.equal(order[order], rows)
        moved = {
            names[i].removeprefix("left_") for i in (order != rows).nonzero()[:, 0] if names[i].startswith("left_")
        }
        assert moved, "every layout has arms and legs"
        if swap == "body":
            sided = [i for i, name in enumerate(names) if {"left", "right"} & set(name.split("_"))]
            assert (order[sided] != rows[sided]).all()
        else:
            assert not moved & {"shoulder", "hip", "eye", "ear"}
            assert ("wrist" in moved) == (swap == "arms")
            assert ("ankle" in moved) == (swap == "legs")
    assert mirrored_rows(("nose", "left_eye", "right_eye", "left_ear")) == [0, 2, 1, 3]


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model(dtype=torch.float64)


@pytest.fixture(scope="module")
def truth(model) -> BodyParams:
    return bodies(model)


@pytest.fixture(scope="module")
def xyc(model, truth) -> torch.Tensor:
    return see(model, truth)


@pytest.fixture(scope="module")
def lift(model, truth) -> torch.Tensor:
    return model.keypoints(model(**truth), LAYOUT)


def mistaken(seen: torch.Tensor) -> torch.Tensor:
    """Keypoints or a lift of which some people's sides are exchanged."""
    wrong = seen.clone()
    for swap, order in zip(SWAPS, exchanges(LAYOUT), strict=True):
        rows = torch.tensor(WRONG[swap])
        wrong[rows] = seen[rows][:, order]
    return wrong


def test_who_is_seen_rightly_stays_as_they_are(model, xyc, lift):
    for joints3d in (None, lift):
        plain = fit(model, xyc, joints3d=joints3d, config=FitConfig(swaps=False))
        tried = fit(model, xyc, joints3d=joints3d, config=FitConfig(doubtful=0.0))
        assert tried.swapped == (None,) * PEOPLE
        assert plain.swapped == (None,) * PEOPLE
        assert apart(plain, tried).max() == 0


@pytest.fixture(scope="module")
def found(model, xyc, lift) -> FitResult:
    return fit(model, mistaken(xyc), joints3d=mistaken(lift))


def test_mistaken_sides_are_found(model, truth, xyc, lift, found):
    """With a lift that is mistaken alike, as networks do."""
    want = {i: swap for swap, people in WRONG.items() for i in people}
    assert dict(enumerate(found.swapped)) == {i: want.get(i) for i in range(PEOPLE)}
    right = fit(model, xyc, joints3d=lift)
    assert apart(found, right).max() < NEAR, "as if seen rightly"
    assert torch.equal(found.keypoints, mistaken(xyc)), "a result holds what was given"
    blind = fit(model, mistaken(xyc), joints3d=mistaken(lift), config=FitConfig(swaps=False))
    worse = pa_mm(blind.joints, model(**truth).joints) - pa_mm(found.joints, model(**truth).joints)
    assert worse[sorted(want)].min() > 20


def test_a_right_lift_is_kept(model, xyc, lift):
    """Of a picture whose arms alone are mistaken."""
    rows, order = torch.tensor([1, 7]), exchanges(LAYOUT)[SWAPS.index("arms")]
    wrong = xyc[rows][:, order]
    result = fit(model, wrong, joints3d=lift[rows])
    assert result.swapped == ("arms", "arms")
    assert apart(result, fit(model, xyc[rows], joints3d=lift[rows])).max() < NEAR


@pytest.mark.parametrize("swap", SWAPS)
def test_the_lift_that_agrees_is_taken(xyc, lift, swap):
    order = exchanges(LAYOUT)[SWAPS.index(swap)]
    target, weight = xyc[..., :2] / 1000, xyc[..., 2]
    known = torch.isfinite(lift).all(2)
    for given in (lift, lift[:, order]):
        for any_origin_and_size in (given, 3 * given + 1):
            taken = agreeing_lift(any_origin_and_size, target, weight, order)
            right = lift if any_origin_and_size is given else 3 * lift + 1
            assert torch.equal(taken[known], right[known])


def test_exchanged_people_are_fitted_as_if_alone(model, xyc, lift, found):
    wrong, wrong_lift = mistaken(xyc), mistaken(lift)
    for rows in ([0], [2, 7], [3]):
        some = fit(model, wrong[rows], joints3d=wrong_lift[rows])
        assert (some.joints - found.joints[rows]).norm(dim=2).max() < SAME
        assert some.swapped == tuple(found.swapped[i] for i in rows)
    in_parts = fit(model, wrong, joints3d=wrong_lift, config=FitConfig(batch_size=5))
    assert apart(in_parts, found).max() < SAME
    assert [one.swapped for one in split(found)] == [(swap,) for swap in found.swapped]


def test_what_is_given_stays_as_it_is(model, xyc, lift, monkeypatch):
    """Arrays of the caller, and the records that go from step to step of a fit."""
    watched = []

    def watch(step):
        def inner(*args):
            before, after = copy.deepcopy(args), step(*args)
            for one, was in zip(tensors(args), tensors(before), strict=True):
                torch.testing.assert_close(one, was, rtol=0, atol=0, equal_nan=True)
            watched.append(torch.equal(next(tensors(after)), next(tensors(args))))
            return after

        return inner

    fitter = Fitter(
        layout=LAYOUT, model=model, config=replace(FitConfig.without_conditional_prior(), doubtful_components=0.0)
    )
    monkeypatch.setattr(type(fitter.exchanged), "__call__", watch(type(fitter.exchanged).__call__))
    monkeypatch.setattr("bodyfit.fit.fitter.from_components", watch(from_components))
    given = mistaken(xyc), mistaken(lift)
    before = copy.deepcopy(given)
    result = fitter(given[0], image_size=SIZE, focal_px=FOCAL, joints3d=given[1])
    assert any(result.swapped)
    assert watched == [False, False]
    for one, was in zip(given, before, strict=True):
        torch.testing.assert_close(one, was, rtol=0, atol=0, equal_nan=True)


def tensors(value) -> Iterator[torch.Tensor]:
    """Those in records and tuples, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        yield from (t for one in value for t in tensors(one))
    elif is_dataclass(value):
        yield from (t for field in fields(value) for t in tensors(getattr(value, field.name)))


def test_nobody_and_no_numbers(model, xyc, lift, found):
    assert fit(model, xyc[:0], joints3d=lift[:0]).swapped == ()
    bad, bad_lift = mistaken(xyc), mistaken(lift)
    bad[3] = torch.nan
    bad_lift[5] = torch.nan
    result = fit(model, bad, joints3d=bad_lift)
    assert result.status[3] is FitStatus.UNOBSERVABLE
    assert result.swapped[3] is None
    others = [i for i in range(PEOPLE) if i not in (3, 5)]
    assert apart(result, found)[others].max() < SAME
    assert result.status[5].ok
