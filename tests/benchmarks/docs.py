"""The generated part of docs/performance.md: machine, table, pictures, and what each case measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.report import as_table

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- benchmark: begin, generated -->", "<!-- benchmark: end -->"


def regenerate(found: dict[str, Any], page: Path = PAGE) -> None:
    """Replace the text between the marks, and the pictures beside the page.

    Raises:
        ValueError: the page has no marks.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    folder = page.parent / "pictures"
    for old in folder.glob("case-*.svg"):
        old.unlink()
    shown = write_pictures(found, folder)
    page.write_text(f"{before}{BEGIN}\n\n{_section(found, shown)}\n\n{END}{after}")


def _section(found: dict[str, Any], shown: dict[str, str]) -> str:
    images = [f"![{title}](pictures/{name})" for name, title in shown.items()]
    about = [f"- **{case['number']}**, {case['title']}: {case['about']}" for case in found["cases"]]
    return "\n\n".join(
        [
            _machine(found),
            as_table(found),
            "\n\n".join(images),
            "## What is measured",
            "\n".join(about),
        ]
    )


def _machine(found: dict[str, Any]) -> str:
    named = dict(found["machine"])
    place = f"{named.pop('python')}, {named.pop('system')}, {named.pop('cpus')} CPUs ({named.pop('cpu')})"
    load = named.pop("load")
    versions = ", ".join(f"{name} {value}" for name, value in named.items() if value)
    return (
        f"`{found['command'].strip()}`: {place}, load {load} before it began; {versions}. Medians"
        f" of {found['rounds']} rounds (fewer, where a case takes long)."
    )
