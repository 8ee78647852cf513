"""The benchmark that lets others minimise the fit's objective has the fit's objective."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bodyfit

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The script as a module, and arguments for three people with a lift."""
    clips = tmp_path_factory.mktemp("clips")
    poses = np.zeros((8, 72))
    poses[:, 3:] = bodyfit.load_pose_prior().sample(8, seed=3)
    np.savez(clips / "clip.npz", poses=poses)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts.bench import fit as bench_fit

        yield bench_fit, Namespace(clips=clips, people=3, layout="coco17", noise_px=4.0, seed=0, lift_noise_mm=30.0)
    for name in [
        n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(ROOT / "scripts"))
    ]:
        del sys.modules[name]


@pytest.mark.parametrize("size", [None, 1.0, 2.0], ids=["no lift", "lift", "lift beyond its largest size"])
def test_its_residuals_are_the_fits(bench, size):
    module, args = bench
    case = module.make_case(args)
    lift = case.seen.lift_m
    assert lift is not None
    if size is None:
        case = replace(case, seen=replace(case.seen, lift_m=None, lift_weight=None))
    else:
        case = replace(case, seen=replace(case.seen, lift_m=size * lift))
    assert module.disagreement(case) < 1e-6
