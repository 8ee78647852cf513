"""Fits in forked and spawned processes, in a DataLoader's workers, in threads and in an event loop."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from bodyfit.body.params import BodyParams
from bodyfit.runtime.pickling import ByValue

CASES = Path(__file__).with_name("process_cases.py")
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
LIMIT_S = 300
"""A child that blocks would do so for ever."""


def run(*case: str) -> None:
    paths = os.pathsep.join([str(CASES.parents[1]), os.environ.get("PYTHONPATH", "")])
    # A session of its own: what hangs is ended with its children.
    process = subprocess.Popen(
        [sys.executable, str(CASES), *case],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        pytest.fail(f"it blocks: {process.communicate()[0]}")
    assert (process.returncode, said.splitlines()[-1:]) == (0, ["done"]), said


@FORKS
def test_forked_children_loader_workers_and_threads_fit_as_the_main_thread_does():
    run("one_process")


@FORKS
@pytest.mark.slow
def test_a_child_may_use_bodyfit_first_where_the_parent_has_only_used_torch():
    run("fork_before_bodyfit")


@FORKS
def test_mediapipe_tells_at_once_that_it_cannot_go_on_in_a_fork():
    pytest.importorskip("mediapipe")
    run("mediapipe_after_fork")


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=[FORKS, pytest.mark.slow])])
def test_results_come_back_from_a_pool(method):
    run("pool", method)


def test_a_pickled_record_keeps_values_types_and_gradients(tiny):
    betas = torch.full((2, 10), 0.5, dtype=torch.float64, requires_grad=True)
    output = tiny(betas=betas)
    for again in (pickle.loads(pickle.dumps(output)), copy.deepcopy(output)):
        assert type(again) is type(output)
        assert again.vertices.dtype == torch.float64
        assert torch.equal(again.vertices, output.vertices)
        assert not again.vertices.requires_grad, "a graph stays in its process"
    params = BodyParams(betas, *(torch.zeros(2, n, dtype=torch.float64) for n in (69, 3, 3)))
    again = pickle.loads(pickle.dumps(params))
    assert again.betas.requires_grad
    assert torch.equal(again.betas, betas)
    assert again.expression is None


@dataclass(frozen=True)
class Record(ByValue):
    others: dict


def test_tensors_in_a_dict_of_a_record_are_pickled_by_value(monkeypatch):
    """As `FitResult.others` holds those of a user's own variables; by the pickler of processes."""

    def shared(tensor):
        raise AssertionError("a tensor was put into shared memory")

    monkeypatch.setitem(ForkingPickler._extra_reducers, torch.Tensor, shared)
    record = Record({"scale": torch.arange(3.0), "name": "x"})
    again = pickle.loads(ForkingPickler.dumps(record))
    assert torch.equal(again.others["scale"], record.others["scale"])
    assert again.others["name"] == "x"
    with pytest.raises(AssertionError, match="shared memory"):
        ForkingPickler.dumps(torch.zeros(1))
