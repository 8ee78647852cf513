"""What the benchmarks share: every one writes its numbers, whole or not at all, with what is needed to judge them."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "scripts" / "bench"


@pytest.fixture(scope="module")
def harness():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts.bench.records import harness

        yield harness


def written(harness, path: Path, results: dict, monkeypatch, *words: str) -> dict:
    """The record that a benchmark of this command line writes."""
    monkeypatch.setattr(sys, "argv", [str(BENCH / "synthetic.py"), *words])
    parser = argparse.ArgumentParser()
    harness.add_json_option(parser)
    harness.write_json(parser.parse_args(["--json", str(path)]), results)
    return json.loads(path.read_text())


def test_a_record_says_what_was_run_when_and_where(harness, tmp_path, monkeypatch):
    words = ("/home/somebody/clips", "--people", "4", "--json", "/home/somebody/out.json")
    record = written(harness, tmp_path / "new" / "a.json", {"pa_mpjpe_mm": 40.1}, monkeypatch, *words)
    assert record["benchmark"] == "synthetic"
    assert record["command"] == "python -m scripts.bench.synthetic clips --people 4"
    assert abs((date.fromisoformat(record["date"]) - date.today()).days) <= 1
    machine = record["machine"]
    assert machine["cores"] >= 1
    assert machine["threads"] == torch.get_num_threads()
    assert machine["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert record["results"] == {"pa_mpjpe_mm": 40.1}


def test_a_record_names_no_host_user_or_folder(harness, tmp_path, monkeypatch):
    text = json.dumps(written(harness, tmp_path / "a.json", {}, monkeypatch, "/home/somebody/clips"))
    for private in (platform.node(), str(ROOT), str(tmp_path), str(Path.home()) + "/", "somebody"):
        assert not private or private not in text


def test_numbers_of_any_kind_are_plain_json(harness, tmp_path, monkeypatch):
    results = {"a": np.float32(0.1), "b": torch.tensor([1, 2]), "c": float("nan"), 4: np.array([[np.inf, 1.23456789]])}
    record = written(harness, tmp_path / "a.json", results, monkeypatch)
    assert record["results"] == {"a": 0.1, "b": [1, 2], "c": None, "4": [[None, 1.23457]]}


def test_a_record_that_fails_leaves_the_one_before(harness, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    before = written(harness, path, {"a": 1}, monkeypatch)
    with pytest.raises(TypeError):
        written(harness, path, {"a": object()}, monkeypatch)
    assert json.loads(path.read_text()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def benchmarks() -> list[Path]:
    """Every script that measures."""
    found = [path for path in BENCH.rglob("*.py") if "argparse.ArgumentParser(" in path.read_text(encoding="utf-8")]
    return sorted(path for path in found if path.name != "harness.py")


@pytest.mark.parametrize("path", benchmarks(), ids=lambda path: path.stem)
def test_every_benchmark_has_the_option_and_writes_by_it(path):
    text = path.read_text(encoding="utf-8")
    assert "harness.add_json_option(parser)" in text
    assert "harness.write_json(" in text
    assert '"--json"' not in text
