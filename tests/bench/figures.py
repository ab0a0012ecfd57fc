"""Prints figures and keeps the last ones in docs/figures.md."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "figures.md"
HEAD = """# Figures

Measured by the scripts under `tests/bench/`, which write this page. Absolute times say
something about one machine only; ratios come from one run.

| Figure | Last result | Unit | When and where |
|---|---|---|---|
"""


def report(name: str, number: float, unit: str) -> None:
    """Prints one line for people and scripts, and writes the row of docs/figures.md."""
    text = f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
    print(f"figure: {name} {text} {unit}", flush=True)
    where = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"
    rows = _rows() | {name: f"| {name} | {text} | {unit} | {where} |"}
    FILE.write_text(HEAD + "\n".join(rows[key] for key in sorted(rows)) + "\n")


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _rows() -> dict[str, str]:
    if not FILE.exists():
        return {}
    lines = FILE.read_text().removeprefix(HEAD).splitlines()
    return {match[1]: line for line in lines if (match := re.match(r"\| (\w+) ", line))}
