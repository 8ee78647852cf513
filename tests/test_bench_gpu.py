"""The script that judges a GPU, on a CPU at a small size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts.bench import gpu

        yield gpu


def test_the_tensors_agree_with_the_loops(bench, monkeypatch, tmp_path, capsys):
    out = tmp_path / "table.json"
    few = ["--people", "4", "--compared", "4", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", *few, "--json", str(out)])
    bench.main()
    table = json.loads(out.read_text())["results"]
    assert table["backend"] == "tensors"
    assert table["fits apart from the CPU's, mm, median"] < 0.1
    assert table["fits that ended well, share"] == 1
    first, _, last = table["operations an iteration, by stage"]
    assert first <= 330
    assert last <= 530  # with the capsules
    assert "rasteriser" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_said(bench, monkeypatch):
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU"):
        bench.main()
