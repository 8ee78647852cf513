"""Format the measurements of a shape as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from bodyfit.errors import AssetError

__all__ = ["measurement_table", "read_measurements"]


def read_measurements(folder: Path) -> Mapping[str, Any] | None:
    """Read measurements.json of a folder that `bodyfit shape` wrote; None without one.

    Raises `AssetError` for a damaged file.
    """
    path = folder / "measurements.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["measurements"], dict):
            raise TypeError("its measurements are not a table")
        measurement_table(record)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise AssetError(f"{path}: damaged or unreadable ({fault}); remove it, or measure again") from None
    return record


def measurement_table(record: Mapping[str, Any]) -> str:
    """Make the table of measurements with their intervals, with bars over the widest interval of each unit."""
    measurements = record["measurements"]
    rows = "".join(_row(name, m) for name, m in measurements.items())
    inputs = {"height_m": ("height", "m"), "mass_kg": ("mass", "kg")}
    words = [
        f"{title} {value:g} {unit} as given" for k, (title, unit) in inputs.items() if (value := record["known"][k])
    ]
    used = sum(bool(picture["used"]) for picture in record["pictures"])
    words.append(f"from {used} of {len(record['pictures'])} pictures")
    notes = "".join(f'<p class="note">{escape(str(note))}</p>\n' for note in record.get("notes", ()))
    percent = f"{100 * record['level']:.0f}&#8239;%"
    return (
        f'<p class="meta">{escape(", ".join(words))}</p>\n{notes}'
        f'<div class="scroll"><table class="measured"><thead><tr><th>measurement</th><th class="n">value</th>'
        f'<th class="n">{percent} interval</th><th></th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n'
    )


def _row(name: str, m: Mapping[str, Any]) -> str:
    """Make the row of a measurement, with a bar of the interval's half width, 20 % of the value at full length."""
    scale, unit = (1.0, "kg") if m["unit"] == "kg" else (100.0, "cm")
    value, low, high = (scale * float(m[key]) for key in ("value", "low", "high"))
    share = min(100 * (high - low) / 2 / max(value, 1e-9) / 0.2, 100)
    return (
        f'<tr><td>{escape(name.replace("_", " "))}</td><td class="n">{value:.1f}&#8239;{unit}</td>'
        f'<td class="n">{low:.1f} to {high:.1f}</td><td class="bar"><i style="--w:{share:.0f}"></i></td></tr>\n'
    )
