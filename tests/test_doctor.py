"""`bodyfit doctor` tells a working installation from one that is not."""

from __future__ import annotations

import json

from bodyfit.cli import doctor as checks
from bodyfit.cli.main import main
from bodyfit.errors import DetectorError


def test_all_is_well_here(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert list(told["checks"]) == ["packages", "detector", "fit", "cache", "gpu"]
    assert all(check["ok"] and check["words"] for check in told["checks"].values())


def test_a_network_that_does_not_run_fails_with_its_reason(monkeypatch, capsys):
    def broken(name: str) -> None:
        raise DetectorError(f"{name}.onnx: the file is cut short")

    monkeypatch.setattr("bodyfit.detect.networks.session.shipped_network", broken)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    (line,) = [line for line in lines if line.startswith("detector")]
    assert "FAILS" in line
    assert "cut short" in line


def test_a_cache_that_cannot_be_written_says_what_to_do(monkeypatch):
    monkeypatch.setattr("bodyfit.runtime.loop_cache.loop_cache", lambda function: None)
    finding = checks._cache()
    assert not finding.ok
    assert "NUMBA_CACHE_DIR" in finding.words


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("bodyfit.cli.info.installation", lambda: {"missing": ["onnxruntime"]})
    assert "onnxruntime" in checks._packages().words


def test_a_fit_that_is_off_fails(monkeypatch):
    monkeypatch.setattr(checks, "_MOST_PX", 0.0)
    assert not checks._fit().ok


def test_compile_does_all_the_work_that_needs_loops(monkeypatch):
    done = []
    work = {name: lambda model, name=name: done.append(name) for name in ("bodies", "fits")}
    monkeypatch.setattr("bodyfit.cli.support.compile_loops.WORK", work)
    monkeypatch.setattr("bodyfit.runtime.compiled.compiled_so_far", lambda: (7, 31.0))
    finding = checks._compile()
    assert finding.ok
    assert done == ["bodies", "fits"]
    assert "7 loops compiled in 31 s; they are kept in" in finding.words
