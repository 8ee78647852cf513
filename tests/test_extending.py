"""What docs/extending.md teaches works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bodyfit

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def test_the_snippets_run_one_after_another(tables, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 6
    for snippet in snippets:
        exec(compile(snippet, "docs/extending.md", "exec"), names)
        if "wrist" in names and "said" not in names:
            names["said"] = capsys.readouterr().out
    assert names["said"] == "3.30 m, by loops and tensors\n"
    assert float(names["size"]) == pytest.approx(2, rel=0.03)
    assert 0 < float(names["deviation"]) < 0.1
    assert names["detector"].detect([None]) == [[]]
    rows = (tmp_path / "joints.xyz").read_text().splitlines()
    assert len(rows) == names["result"].joints.shape[1]
    assert bodyfit.FitConfig().blocks == ()
