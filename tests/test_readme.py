"""What the README shows a newcomer works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import bodyfit

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_snippet_runs_and_finds_the_bodies_again(monkeypatch, tmp_path):
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert all(status.ok for status in names["result"].status)
    # The keypoints are exact: what is left is the priors' pull, a centimetre at 4 m.
    assert names["result"].reprojection_error_px.mean() < 5
    assert len(bodyfit.load_result("people.npz")) == 256


def test_every_local_link_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "assets" / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_commands_are_those_of_the_check_script():
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install", "bodyfit fit assets/samples/walking.jpg", '".[test]"', "pytest"):
        assert command in README
        assert command in script
