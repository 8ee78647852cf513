"""The script that judges a GPU, on a CPU at a small size."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench" / "gpu.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tensors_agree_with_the_loops(bench, monkeypatch, tmp_path, capsys):
    out = tmp_path / "table.json"
    few = ["--people", "4", "--compared", "4", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", *few, "--json", str(out)])
    bench.main()
    table = json.loads(out.read_text())
    assert table["backend"] == "tensors"
    assert table["fits apart from the CPU's, mm, median"] < 0.1
    assert table["fits that ended well, share"] == 1
    assert max(table["operations an iteration, by stage"]) <= 480
    assert "rasteriser" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_said(bench, monkeypatch):
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU"):
        bench.main()
