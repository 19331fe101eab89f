"""The code in the documentation runs and prints what the page says; links and settings are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from rimp_otel import TelemetryConfig

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n+^```text\n(?P<printed>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of Python, and the text block right after it, if any."""

    name: str
    code: str
    printed: str | None


def blocks() -> list[Block]:
    """Return all blocks of all pages, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(f"{page.name}:{line}", match["code"], match["printed"]))
    return found


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.name)
def test_block_runs_and_prints_what_it_says(block: Block, tmp_path: Path) -> None:
    """Each block runs on its own in an empty directory, with warnings as errors."""
    for module in ("loguru", "pydantic", "structlog"):
        if f"from {module} " in block.code or f"import {module}\n" in block.code:
            pytest.importorskip(module)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    finished = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:SelectableGroups:DeprecationWarning",
            "-c",
            block.code,
        ],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    if block.printed is not None:
        assert finished.stdout == block.printed


def test_every_page_is_linked_from_the_readme() -> None:
    """Every page is linked from the README."""
    readme = (ROOT / "README.md").read_text()
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme]
    assert missing == []


def test_links() -> None:
    """Relative links lead to existing files."""
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_setting_is_documented() -> None:
    """The table of settings has each field of the configuration, and no other."""
    documented = re.findall(
        r"^\| `(\w+)` \| `RIMP_", (ROOT / "docs/native-api.md").read_text(), re.MULTILINE
    )
    # `seal` is the older name of `parquet`.
    assert sorted([*documented, "seal"]) == sorted(TelemetryConfig.__dataclass_fields__)
