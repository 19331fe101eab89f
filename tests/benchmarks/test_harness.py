"""Rounds, comparisons, tables, pictures and the page that they are in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.__main__ import merge_results
from tests.benchmarks.cases import ALL
from tests.benchmarks.child import FailedError, check, run_apart
from tests.benchmarks.docs import BEGIN, END, PAGE, regenerate
from tests.benchmarks.model import Case, Contender, Row, Task
from tests.benchmarks.report import as_json, as_table
from tests.benchmarks.runner import Result, Spread, compare, missing_packages, run_case
from tests.benchmarks.sink import read_bodies, sink
from tests.benchmarks.svg import Bar, draw_bars, draw_line

MACHINE = {"python": "CPython 3", "system": "Linux", "cpu": "some", "cpus": 2, "load": 0.1}


def case(**changed: object) -> Case:
    """A case of two contenders and a baseline, of which nothing is run."""

    def never(task: Task) -> dict[str, float]:
        raise AssertionError("not run")

    made = Case(
        1,
        "Title",
        "what it is about.",
        10,
        1,
        (Contender("ours · x", never), Contender("peer · x", never), Contender("none", never)),
        (Row("row", "ours · x", "peer · x", 0.5, minus="none"),),
    )
    return made._replace(**changed)


def figures(ours: list[float], peer: list[float], none: list[float]) -> dict[str, list]:
    """Return the measurements of rounds."""
    named = {"ours · x": ours, "peer · x": peer, "none": none}
    return {name: [{"cpu": value} for value in values] for name, values in named.items()}


def results() -> list[Result]:
    """Return the results of one case with three rounds."""
    given = figures([3, 4, 5], [11, 21, 31], [1, 1, 1])
    return [Result(case(), 10, given, compare(case().rows, given))]


def test_a_ratio_is_that_of_one_round_less_what_all_do() -> None:
    """A ratio is not that of the medians."""
    (compared,) = results()[0].rows
    assert compared.ratio.median == pytest.approx(0.15)
    assert compared.ours == Spread(3, 2.5, 3.5)
    assert compared.reached is True


def test_a_row_without_its_peer_is_left_out() -> None:
    """A peer may not be installed."""
    given = figures([1], [1], [0])
    del given["peer · x"]
    assert compare(case().rows, given) == []


def test_what_is_not_installed_is_named() -> None:
    """Missing packages are named, so that they can be installed."""
    contender = Contender("peer", lambda task: {}, ("no_such_distribution", "json"))
    assert missing_packages(case(contenders=(contender,))) == {"no_such_distribution"}


def test_the_table_has_a_line_for_each_comparison() -> None:
    """A line has figures, ratio, quartiles and target."""
    table = as_table(as_json(results(), "command", 3, MACHINE))
    assert table.splitlines()[2:] == [
        "| **1** | **Title** | | | | | |",
        "|  | row | 3 µs | peer | 20 µs | **0.15** (0.142 to 0.175) | ≤ 0.5 ✓ |",
    ]


def test_the_page_gets_table_and_pictures_between_its_marks(tmp_path: Path) -> None:
    """Other text is kept; pictures of removed cases are deleted."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "case-99-cpu.svg").touch()
    regenerate(as_json(results(), "command", 3, MACHINE), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "![Title](pictures/case-01-cpu.svg)" in text
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["case-01-cpu.svg"]


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    """Nothing is written to a page without marks."""
    page = tmp_path / "performance.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        regenerate(as_json(results(), "command", 3, MACHINE), page)


def test_the_documentation_has_marks() -> None:
    """Without them, ``--docs`` could not replace the text."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_pictures_are_xml_and_say_the_figures() -> None:
    """Bars that differ much are drawn by their logarithms, and say so."""
    given = [Bar("a & b", 1.0, 0.9, 1.1, True), Bar("c", 1_000.0, 900.0, 1_100.0, False)]
    texts = [
        "".join(part.itertext()) for part in ElementTree.fromstring(draw_bars("T", "µs", given))
    ]
    assert "T (µs, logarithmic)" in texts
    assert {"a & b", "1 µs", "1,000 µs"} <= set(texts)
    drawn = ElementTree.fromstring(draw_line("T", "MB", "records", [(1, 2.0), (2, 3.0)]))
    assert drawn.find("{http://www.w3.org/2000/svg}polyline") is not None


def test_runs_are_merged_by_case(tmp_path: Path) -> None:
    """The last run of a case counts."""
    first = as_json(results(), "one", 3, MACHINE)
    second = {**first, "command": "two", "cases": [{**first["cases"][0], "records": 99}]}
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    for file, found in zip(files, (first, second), strict=True):
        file.write_text(json.dumps(found))
    found = merge_results(files)
    assert found["command"] == "one; two"
    assert [entry["records"] for entry in found["cases"]] == [99]


def test_the_sink_gives_back_what_it_took() -> None:
    """The sink returns all bodies unchanged and in order."""
    import urllib.request

    with sink() as url:
        for body in (b"first", b"", b"\x00second"):
            urllib.request.urlopen(urllib.request.Request(url, body, method="POST")).close()
        assert list(read_bodies(url)) == [b"first", b"", b"\x00second"]


def test_each_case_is_described_and_numbered() -> None:
    """The contenders of rows exist, and names are unique."""
    for entry in ALL:
        names = [contender.name for contender in entry.contenders]
        assert len(set(names)) == len(names)
        named = {row.ours for row in entry.rows} | {row.peer for row in entry.rows if row.peer}
        named |= {row.minus for row in entry.rows if row.minus}
        assert named == set(names)
        assert entry.about.endswith((".", ")."))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="forking beside threads warns")
class TestApart:
    """Each run has a process of its own."""

    def test_what_fails_there_is_an_error_here(self, tmp_path: Path) -> None:
        """A failure has the name of the contender and the reason."""
        bad = Contender("bad", lambda task: check(1, 2) or {})
        with pytest.raises(FailedError, match=r"bad: (?s:.*)1 records are in the files"):
            run_apart(bad, 1, tmp_path)

    def test_rounds_begin_with_another_one_each(self, tmp_path: Path) -> None:
        """Every contender runs in every round, and each round begins with another one."""
        log = tmp_path / "log"

        def run(name: str):
            def work(task: Task) -> dict[str, float]:
                with log.open("a") as file:
                    file.write(name)
                return {"cpu": 1.0}

            return work

        both = (Contender("a", run("a")), Contender("b", run("b")))
        found = run_case(case(contenders=both, rows=()), 1, 3, tmp_path)
        assert log.read_text() == "abbaab"
        assert {name: len(given) for name, given in found.figures.items()} == {"a": 3, "b": 3}
