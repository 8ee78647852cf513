"""Where each shipped file comes from, and what each shipped network is: told beside them, and true."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[1] / "assets"
README = (ASSETS / "README.md").read_text(encoding="utf-8")
CARDS = ("prior/conditional.md", "clothed/surface.md", "views/new_views.md")
"""Of the networks that were trained here; docs/lift.md and docs/fields.md are those of the other two."""


def files() -> list[str]:
    """Every shipped file that is no text about others, by its path below assets."""
    paths = (p.relative_to(ASSETS).as_posix() for p in ASSETS.rglob("*") if p.is_file())
    return sorted(path for path in paths if not path.endswith(".md"))


def section(folder: str) -> str:
    """What is said of a folder."""
    return README[README.index(f"\n## {folder}/") :].split("\n## ")[1]


def test_every_file_is_accounted_for_in_its_folders_section():
    catalogue = json.loads((ASSETS / "appearance/catalogue.json").read_text(encoding="utf-8"))
    pieces = json.dumps(catalogue)
    for path in files():
        folder, name = path.split("/", 1)
        told = section(folder)
        if folder == "appearance" and name != "catalogue.json":
            assert "CC0" in told
            assert Path(name).stem in pieces, f"{path} is in no catalogue"
        else:
            assert name in told, f"{path} is not in the section of {folder}/"


def test_the_digests_of_networks_are_those_of_the_files():
    told = re.findall(r"\b[0-9a-f]{8}(?=\.\.\.)", section("detector"))
    for path in sorted((ASSETS / "detector").glob("*.onnx")):
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] in told, f"{path.name} is another file"


@pytest.mark.parametrize("card", CARDS)
def test_a_card_tells_licence_data_training_numbers_and_failures(card):
    text = (ASSETS / card).read_text(encoding="utf-8")
    for head in ("What", "Data.", "Training.", "Numbers", "Failures."):
        assert f"- **{head}" in text, head
    assert "Apache-2.0" in text
    training = text[text.index("- **Training.") :]
    assert re.search(r"\bminutes\b", training)
    assert re.search(r"scripts\.train", training)
    for name in re.findall(r"\w+\.(?:onnx|npz)\b", text.splitlines()[0]):
        assert (ASSETS / card).with_name(name).is_file()
    assert card in README
