"""What bodyfit leaves alone: the user's home, the process's environment, the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from bodyfit.runtime.environment import environment

ROOT = Path(__file__).resolve().parents[1]
OPENS_SESSIONS = ROOT / "bodyfit/detect/networks/session.py"

FITS = """
import os, pathlib, sys
before = dict(os.environ)
import bodyfit
import importlib.util
extra = ["mediapipe"] if importlib.util.find_spec("mediapipe") else []
for detector in ("movenet", *extra):
    assert len(bodyfit.fit_image(sys.argv[1], detector=detector)) == 1
from bodyfit.detect import load_detector
load_detector(hands=True, face=True, masks=True)
ours = "ORT_ GLOG_ TF_CPP_ HF_ RAY_ YOLO_ OMP_ MPL NUMBA_"  # libraries set others for themselves
changed = [k for k in os.environ.keys() | before.keys() if os.environ.get(k) != before.get(k)]
assert not [k for k in changed if k.startswith(tuple(ours.split()))], changed
print(*(path for path in pathlib.Path().rglob("*") if path.is_file()), sep="\\n")
if extra:
    import mediapipe  # whoever wants all of it gets it
    assert mediapipe.solutions.pose and mediapipe.Image
"""


def test_fits_leave_no_file_in_the_users_home_and_the_environment_as_it_was(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    kept = {k: v for k, v in os.environ.items() if not re.match("XDG_|ORT_|MPL|HF_|NUMBA_", k)}
    paths = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FITS, str(ROOT / "assets/samples/standing.jpg")]
    done = subprocess.run(command, env=kept | paths, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # The compiler's cache is there where the package's own folder cannot be written.
    compilers = ("home/.cache/numba/", "home/Library/Caches/numba/")
    assert [name for name in done.stdout.split("\n") if name and not name.startswith(compilers)] == []


def test_onnxruntime_is_imported_and_sessions_are_opened_in_one_place():
    """Where its telemetry is turned off."""
    others = [path for path in (ROOT / "bodyfit").rglob("*.py") if path != OPENS_SESSIONS]
    assert [p for p in others if re.search(r"import onnxruntime|InferenceSession", p.read_text(encoding="utf-8"))] == []
    assert "InferenceSession" in OPENS_SESSIONS.read_text(encoding="utf-8")


def test_torchs_compiler_is_not_imported_and_makes_no_folder():
    wanted = re.search(r'"(roma.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if tuple(map(int, metadata.version("roma").split("."))) >= (1, 6, 1):
        pytest.skip(
            f"roma {metadata.version('roma')} is installed, which imports it; bodyfit asks for {wanted and wanted[1]}"
        )
    code = "import bodyfit, sys; bodyfit.Fitter, bodyfit.fit_video; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class TestEnvironment:
    def test_variables_are_set_within_and_put_back(self, monkeypatch):
        monkeypatch.delenv("BODYFIT_TEST", raising=False)
        with environment(BODYFIT_TEST="1"):
            assert os.environ["BODYFIT_TEST"] == "1"
        assert "BODYFIT_TEST" not in os.environ
        with pytest.raises(KeyError), environment(BODYFIT_TEST="1"):
            raise KeyError
        assert "BODYFIT_TEST" not in os.environ

    def test_what_the_user_has_set_is_kept(self, monkeypatch):
        monkeypatch.setenv("BODYFIT_TEST", "mine")
        with environment(BODYFIT_TEST="1"):
            assert os.environ["BODYFIT_TEST"] == "mine"
        assert os.environ["BODYFIT_TEST"] == "mine"

    def test_a_variable_that_a_library_removes_does_no_harm(self, monkeypatch):
        monkeypatch.delenv("BODYFIT_TEST", raising=False)
        with environment(BODYFIT_TEST="1"):
            del os.environ["BODYFIT_TEST"]
        assert "BODYFIT_TEST" not in os.environ
