"""``rimp replay``, into the exporters of this package and of the SDK."""

from __future__ import annotations

import json

import pytest

from rimp_otel import FileStorage, TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.cli.main import main
from tests.processes import run


@pytest.fixture
def recording(tmp_path):
    """A recording of ten log records and a data point."""
    path = tmp_path / "recording"
    events = [TelemetryEvent("a", f"m{n}", time_unix_nano=(n + 1) * 10**9) for n in range(10)]
    with FileStorage(path) as storage:
        storage.store(TelemetryData(events, [TelemetryMetric("m", 1, time_unix_nano=10**9)]))
    return path


def replay(path, *arguments):
    """Run the command, and return its exit code."""
    return main(["replay", "--path", str(path), *arguments])


def test_a_window_goes_into_another_recording(recording, tmp_path, monkeypatch, capsys):
    """In the order of time, however small the batches are."""
    target = tmp_path / "target"
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(target))
    window = ["--since", "1970-01-01T00:00:03Z", "--until", "1970-01-01T00:00:08Z"]
    assert replay(recording, "--exporter", "rimp", "--batch", "2", *window) == 0
    assert capsys.readouterr().out == "rimp took 5 log records\n"
    with FileStorage(target) as storage:
        events = storage.retrieve().events
    assert [event.message for event in events] == ["m2", "m3", "m4", "m5", "m6"]
    assert events[0].time_unix_nano == 3 * 10**9


def test_signals_and_filters_select(recording, tmp_path, monkeypatch, capsys):
    """As in the other commands; --json has the counts."""
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(tmp_path / "target"))
    arguments = ["--exporter", "rimp", "--json", "--signal", "metrics", "traces", "--name", "m*"]
    assert replay(recording, *arguments) == 0
    assert json.loads(capsys.readouterr().out) == {
        "exporter": "rimp",
        "sent": {"traces": 0, "logs": 0, "metrics": 1},
        "failed": {"traces": 0, "logs": 0, "metrics": 0},
        "leftOut": 0,
    }


def test_the_consoles_exporters_are_found(recording):
    """Those of the SDK print each record."""
    script = """
    import sys
    from rimp_otel.cli.main import main
    sys.exit(main(["replay", "--path", sys.argv[1], "--exporter", "console", "--signal", "logs"]))
    """
    out = run(script, recording)
    assert '"body": "m3"' in out
    assert out.endswith("console took 10 log records\n")


def test_failures_make_the_exit_code_1(recording, tmp_path, monkeypatch, capsys):
    """And are counted."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(tmp_path / "file" / "below"))
    assert replay(recording, "--exporter", "rimp", "--signal", "logs") == 1
    captured = capsys.readouterr()
    assert captured.out == "rimp took nothing\nrimp did not take 10 log records\n"
    assert "the exporter of logs returned LogRecordExportResult.FAILURE" in captured.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--exporter", "none-such"], "no exporter 'none-such' is installed for that; installed:"),
        (["--exporter", "rimp"], "would add"),
        (["--exporter", "rimp", "--batch", "0"], "--batch must be 1 or more"),
        ([], "--exporter"),
    ],
)
def test_what_makes_no_sense_is_refused(recording, monkeypatch, capsys, arguments, why):
    """A recording is not added to itself."""
    monkeypatch.setenv("RIMP_STORAGE_PATH", str(recording))
    try:
        code = replay(recording, *arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert why in capsys.readouterr().err
