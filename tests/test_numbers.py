"""The page of numbers and the README's five are what the committed records say."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "docs" / "benchmarks").glob("*.json"))
README, PAGE = ROOT / "README.md", ROOT / "docs" / "numbers.md"


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts.figures import numbers as table

        yield table


@pytest.fixture(scope="module")
def records(table):
    return table.read(RECORDS)


def test_the_page_is_made_of_the_records(table, records):
    assert PAGE.read_text(encoding="utf-8") == table.page(records)


def test_the_readme_has_the_five_numbers(table, records):
    text = README.read_text(encoding="utf-8")
    assert table.readme_with(text, records) == text
    assert len(table.HEADLINES) == 5
    assert all(words in text for words in table.headlines(records).splitlines())


def test_another_number_is_noticed(table, records):
    """Neither would pass with a record that changed."""
    other = deepcopy(records)
    other["synthetic"]["results"]["pa_mpjpe_mm"] += 5
    text = README.read_text(encoding="utf-8")
    assert table.page(other) != PAGE.read_text(encoding="utf-8")
    assert table.readme_with(text, other) != text


def test_every_record_has_a_row(table, records):
    assert {name for name, record in records.items() if "results" in record} <= {row.record for row in table.ROWS}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_are_dated_small_and_private(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 20_000
    assert not re.search(r'"/|\\\\|/home|/root|/tmp', text)
    record = json.loads(text)
    rows = record["rows"] if path.stem == "stated" else [record]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"]) and row["command"] for row in rows)


def test_the_command_makes_both_files(table, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.START}\nold\n{table.END}\nafter\n")
    words = [*map(str, RECORDS), "-o", str(tmp_path / "numbers.md"), "--readme", str(readme)]
    monkeypatch.setattr("sys.argv", ["numbers.py", *words])
    table.main()
    assert (tmp_path / "numbers.md").read_text() == PAGE.read_text(encoding="utf-8")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
