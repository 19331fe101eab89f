"""Recordings that are damaged at random, and every command over them.

``python -m tests.crash.damage``. Each round takes a recording of killed processes, in files and in a database, and
damages one to four of its files: flips bits, cuts, cuts out, inserts, overwrites, exchanges, deletes, or puts
something that is no file in their place. Then it reads the recording in every way, runs every command, repairs it, and
reads it again. No command may raise, hang, or print a control character, and every record is answered that is in no
damaged file.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rimp_otel import FileStorage, SQLiteStorage, StorageError, TelemetryData, open_recording
from rimp_otel.cli.main import main
from tests.crash.running import Outcome, Program, call_in_child, directory, each_seed
from tests.oddities import COMMANDS, FILE_ODDITIES, Recorded, make_recording, replace

_DEADLINE = 60
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Hung(BaseException):
    """A command took longer than its deadline."""


def one_round(seed: int, short: bool) -> Outcome:
    """Damage a recording in files and one in a database, and look at them."""
    figures: Counter[str] = Counter()
    failures: list[str] = []
    chance = random.Random(seed)
    with directory() as parent:
        for name in ("telemetry", "telemetry.db"):
            (parent / name).mkdir()
            recorded = make_recording(parent / name / name)
            for number in range(2 if short else 10):
                copy = parent / f"{name}-{number}"
                shutil.copytree(parent / name, copy)
                done, lost = _damage(copy, recorded, chance)
                whole = (
                    recorded.places - lost if name == "telemetry" or not _is_hit(done) else set()
                )
                figures["damaged recordings"] += 1
                figures.update(f"damage: {what}" for what, _ in done)
                # In a child: what a command leaves behind does not help the next recording.
                # What is there in two files is answered as often.
                may_repeat = any("another" in what for what, _ in done)
                told = call_in_child(_look, copy / name, whole, may_repeat, deadline=20 * _DEADLINE)
                if told is None:
                    failures.append(f"{name} {number} {done}: the process ended")
                    continue
                runs, problems = told
                figures["runs"] += runs
                figures["records looked for"] += len(whole)
                failures += [f"{name} {number} {done}: {problem}" for problem in problems]
                shutil.rmtree(copy, ignore_errors=True)
    return Outcome(figures, failures)


def _is_hit(done: list[tuple[str, str]]) -> bool:
    return any("journal" not in name for _, name in done)


# --- Damage.

_Damage = Callable[[Path, random.Random, list[Path]], object]


def _change(edit: Callable[[bytearray, random.Random], object]) -> _Damage:
    def damage(path: Path, chance: random.Random, others: list[Path]) -> None:
        content = bytearray(path.read_bytes())
        if content:
            edit(content, chance)
            path.write_bytes(content)

    return damage


def _used(content: bytearray) -> int:
    """Return up to where a file has anything but zeros."""
    return len(content.rstrip(b"\0")) or 1


def _flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 50))):
        content[chance.randrange(_used(content))] ^= 1 << chance.randrange(8)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(_used(content)) :]


def _cut_out(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(_used(content))
    del content[start : start + chance.choice((1, 10, 300))]


def _insert(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(_used(content))
    content[start:start] = chance.randbytes(chance.choice((1, 10, 300)))


def _overwrite(content: bytearray, chance: random.Random) -> None:
    start, size = chance.randrange(_used(content)), chance.choice((8, 64, 5_000))
    content[start : start + size] = chance.choice((bytes(size), b"\xff" * size, b"\n" * size))


def _repeat(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(_used(content))
    content[start:start] = content[chance.randrange(start + 1) : start]


def _exchange(path: Path, chance: random.Random, others: list[Path]) -> None:
    if others:
        shutil.copyfile(chance.choice(others), path)


def _be_odd(path: Path, chance: random.Random, others: list[Path]) -> None:
    replace(path, FILE_ODDITIES[chance.choice(list(FILE_ODDITIES))])


_DAMAGES: dict[str, _Damage] = {
    "bits flipped": _change(_flip),
    "cut off": _change(_cut),
    "a part cut out": _change(_cut_out),
    "bytes inserted": _change(_insert),
    "overwritten": _change(_overwrite),
    "a part repeated": _change(_repeat),
    "replaced by another file": _exchange,
    "replaced by what is no file": _be_odd,
    "deleted": lambda path, chance, others: path.unlink(),
}


def _damage(
    parent: Path, recorded: Recorded, chance: random.Random
) -> tuple[list[tuple[str, str]], set[str]]:
    """Damage some files; return what was done, and the places whose records may be lost."""
    # With those that hold no records: locks, indexes.
    files = sorted(path for path in parent.rglob("*") if path.is_file())
    done, lost = [], set()
    for path in chance.sample(files, chance.randint(1, 4)):
        name = str(path.relative_to(parent))
        what = chance.choice(list(_DAMAGES))
        if path.is_file():
            _DAMAGES[what](path, chance, [f for f in files if f != path and f.is_file()])
        done.append((what, name))
        lost |= _places_lost(name, recorded)
    return done, lost


def _places_lost(name: str, recorded: Recorded) -> set[str]:
    lost = set(recorded.lost.get(name, ()))
    if ".seg" in name or ".open" in name:
        # The segment's header says how far the active file counts; a span that is open is looked for in it.
        slot = ".1" if "journal.1" in name else ""
        lost |= {f"journal{slot}", f"open{slot}", f"active{slot}"}
    return lost


# --- Looking.


def _look(path: Path, whole: set[str], may_repeat: bool) -> tuple[int, list[str]]:
    """Return how many runs of commands there were, and what was wrong with them."""
    is_database = path.suffix == ".db"
    problems: list[str] = []
    os.chdir(path.parent)
    signal.signal(signal.SIGALRM, _hang)
    runs = 0
    expected = {place for place in whole if not place.startswith("open")}
    storage = SQLiteStorage(path) if is_database else FileStorage(path)
    ways: dict[str, Callable[[], Iterable[TelemetryData]]] = {
        "retrieve": lambda: [storage.retrieve()],
        "iter_retrieve": lambda: storage.iter_retrieve(batch_size=3),
        "poll": lambda: open_recording(path, must_exist=False).poll(final=True),
    }
    for way, read in ways.items():
        problems += _check_reading(way, read, expected, may_repeat)
    for command in COMMANDS:
        if not (is_database and command[0] in ("verify", "repair", "parquet")):
            runs += 1
            problems += _run(command, path)
    if not is_database:
        runs += 1
        problems += _run(["repair"], path)
        problems += _check_reading("after a repair", ways["retrieve"], expected, may_repeat)
        problems += _run(["verify"], path)
    return runs, problems


def _check_reading(
    way: str, read: Callable[[], Iterable[TelemetryData]], expected: set[str], may_repeat: bool
) -> Iterator[str]:
    signal.alarm(_DEADLINE)
    try:
        batches = list(read())
        found = Counter(event.message for data in batches for event in data.events)
        names = {span.name for data in batches for span in data.spans}
    except StorageError as error:
        if expected:
            yield f"{way}: {error}"
        return
    except _Hung:
        yield f"{way} took longer than {_DEADLINE} s"
        return
    except Exception:
        yield f"{way}: {traceback.format_exc()}"
        return
    finally:
        signal.alarm(0)
    if missing := expected - set(found):
        yield f"{way}: without the log records {sorted(missing)}"
    if missing := expected - names:
        yield f"{way}: without the spans {sorted(missing)}"
    if twice := [place for place in expected if found[place] > 1 and not may_repeat]:
        yield f"{way}: twice the log records {sorted(twice)}"


def _run(command: list[str], path: Path) -> Iterator[str]:
    arguments = [part.format(trace="f" * 32, out="out") for part in command]
    shown = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    signal.alarm(_DEADLINE)
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            code = main([*arguments, "--path", path.name])
    except _Hung:
        yield f"{command} took longer than {_DEADLINE} s"
        return
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        yield f"{command}: {traceback.format_exc()}"
        return
    finally:
        signal.alarm(0)
        shutil.rmtree("out", ignore_errors=True)
    shown.seek(0)
    text = shown.read()
    if code not in (0, 1, 2):
        yield f"{command}: exit code {code}"
    if "Traceback" in text:
        yield f"{command}: {text[-2_000:]}"
    if found := _CONTROL.search(text):
        yield f"{command}: printed {found[0]!r}"


def _hang(number: int, frame: object) -> None:
    raise _Hung


def _main() -> None:
    program = Program(__doc__, 100, 2)
    program.finish(each_seed(one_round, program.options()))


if __name__ == "__main__":
    _main()
    sys.exit(1)
