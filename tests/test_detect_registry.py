"""Detectors that other packages bring: installed, named, made with their options, and told apart."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bodyfit.cli.support.finding import Finding
from bodyfit.detect import DEFAULT, Detector, Follower, detector_names, load_detector
from bodyfit.errors import DetectorError, OptionError
from bodyfit.images.frame import Frame

DOCS = Path(__file__).parents[1] / "docs" / "detectors.md"


def _install(folder: Path, package: str, source: str, entries: str) -> None:
    """What pip leaves of a pure Python package."""
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bodyfit.detectors]\n{entries}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; what was imported from it is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_the_documented_detector_works_when_its_package_is_installed(site):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    source = next(block for block in blocks if "class BrightestSpot" in block)
    assert len(source.strip().splitlines()) <= 22
    assert "spot" not in detector_names()
    _install(site, "bodyfit_spot", source, "spot = bodyfit_spot:BrightestSpot")
    importlib.invalidate_caches()
    assert "spot" in detector_names()
    detector = load_detector("spot")
    assert isinstance(detector, Detector)
    assert not isinstance(detector, Follower)
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[20, 30] = 255
    ((person,), nobody) = detector.detect([Frame(picture), Frame(np.zeros_like(picture))])
    assert person.layout == "coco17"
    np.testing.assert_allclose(person.xyc[0], (30.5, 20.5, 1.0))
    assert nobody == []
    assert type(Finding(detector="spot").load_detector()) is type(detector)  # the command line's way


def test_options_reach_a_detector_that_knows_them_and_no_other(site):
    source = (
        "class D:\n"
        "    def __init__(self, *, max_people=None):\n        self.max_people = max_people\n"
        "    def detect(self, frames):\n        return [[] for _ in frames]\n"
    )
    _install(site, "bodyfit_d", source, "d = bodyfit_d:D")
    importlib.invalidate_caches()
    assert load_detector("d", max_people=3).max_people == 3
    with pytest.raises(OptionError, match="d has no option tta"):
        load_detector("d", tta=True)
    with pytest.raises(OptionError, match="mediapipe has no option hands"):
        load_detector("mediapipe", hands=True)


def test_broken_packages_are_named(site):
    _install(site, "bodyfit_broken", "import nothing_of_that_name", "broken = bodyfit_broken:D")
    _install(site, "bodyfit_number", "D = lambda: 7", "number = bodyfit_number:D")
    importlib.invalidate_caches()
    with pytest.raises(DetectorError, match="broken of bodyfit_broken cannot be imported"):
        load_detector("broken")
    with pytest.raises(DetectorError, match=r"no method detect"):
        load_detector("number")


def test_a_name_is_taken_once(site):
    _install(site, "bodyfit_one", "D = int", "two = bodyfit_one:D\nmovenet = bodyfit_one:D")
    _install(site, "bodyfit_other", "D = int", "two = bodyfit_other:D")
    importlib.invalidate_caches()
    with pytest.raises(OptionError, match="two packages bring a detector 'two'"):
        load_detector("two")
    assert type(load_detector(DEFAULT)).__module__ == "bodyfit.detect.movenet"  # ours stays ours
    assert detector_names().count("movenet") == 1


def test_the_default_can_follow():
    assert DEFAULT in detector_names()
    assert isinstance(load_detector(), Follower)
