"""The journal: appended to from anywhere, nothing lost, nothing locked."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import threading

import pytest

from rimp_otel.journal.format import HEADER_SIZE, Definitions, parse_frames
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.segment import Segment
from rimp_otel.journal.slices import Slicer
from rimp_otel.journal.slots import is_owned
from rimp_otel.journal.target import DirectoryTarget
from rimp_otel.otlp.lines import EncodedRecord, Envelope
from rimp_otel.process import Reporter
from tests.journal.records import directory_target

MEBIBYTE = 1024 * 1024
RESOURCE, SCOPE = Envelope('{"resource":{},', "}"), Envelope('{"scope":{},', "}")


def encoded_record(text, scope=SCOPE):
    """Return a record with a text."""
    return EncodedRecord(1, RESOURCE, scope, None, text)


@pytest.fixture
def journal(tmp_path):
    """A journal that is not open yet."""
    journal = Journal(directory_target(tmp_path), MEBIBYTE, Reporter(), open_spans=False)
    yield journal
    journal.reset_after_fork()


def texts(journal):
    """Return all records in the journal's segments, in their order."""
    return [text for segment in journal.segments for text in texts_of(segment)]


def texts_of(segment):
    """Return all records in a segment, in their order."""
    data = segment.read(HEADER_SIZE, segment.frames_end())
    frames = parse_frames(data, HEADER_SIZE, Definitions())
    assert frames.damaged == []
    return [frame.text for frame in frames.records]


def drain(journal):
    """Deal with all records; return how many they were."""
    records = 0
    for segment in list(journal.segments):
        slices = Slicer(segment)
        while pieces := slices.cut(segment.frames_end()):
            records += sum(piece.records for piece in pieces)
            slices.advance()
    return records


def test_first_record_opens_it(journal, tmp_path):
    """Before the first record there is nothing on disk."""
    assert os.listdir(tmp_path) == []
    assert journal.append("t", encoded_record("{}"))
    assert sorted(os.listdir(tmp_path / "journal")) == ["000001.seg", "lock"]
    assert is_owned(tmp_path / "journal")


def test_known_heads(journal, tmp_path):
    """Records of known heads are appended without their envelopes, once a segment has them."""
    resource, other, scope = object(), object(), object()
    one = encoded_record("1")
    assert not journal.append_known("l", id(scope), resource, "1")
    assert not journal.is_open
    assert journal.append("l", one)
    assert not journal.append_known("l", id(scope), resource, "2")
    journal.learn_head("l", id(scope), resource, scope, one)
    assert journal.append_known("l", id(scope), resource, "2")
    assert not journal.append_known("l", id(scope), other, "3")
    assert not journal.append_known("t", id(scope), resource, "3")
    assert not journal.append_known("l", id(scope), resource, '"\ud800"')
    assert not journal.append_known("l", id(scope), resource, "x" * MEBIBYTE)
    journal.segments[-1].freeze()
    assert not journal.append_known("l", id(scope), resource, "3")
    assert texts(journal) == ["1", "2"]
    assert journal.append("l", one)
    assert not journal.append_known("l", id(scope), resource, "4")
    assert texts(journal) == ["1", "2", "1"]
    journal.reset_after_fork()
    assert not journal.append_known("l", id(scope), resource, "5")


def test_records_are_appended_together(journal):
    """Records of several envelopes and a lone surrogate are there in their order, by one write."""
    other = Envelope('{"scope":{"name":"o"},', "}")
    records = [encoded_record(str(n), other if n % 3 else SCOPE) for n in range(7)]
    written = []
    assert journal.append_all("l", [])
    assert journal.append("l", encoded_record("first"))
    segment = journal.segments[0]
    write = segment.write
    segment.write = lambda data: written.append(data) or write(data)
    assert journal.append_all("l", records)
    assert journal.append_all("l", [encoded_record('"\ud800"', other)])
    assert texts(journal) == ["first", *map(str, range(7)), '"\ufffd"']
    assert [data.count(b"\x1ed") + data.startswith(b"d") for data in written] == [1, 0]
    assert [data.count(b"\n") for data in written] == [1, 1]
    assert drain(journal) == 9


def test_records_that_find_no_room_go_into_the_next_segment_together(journal):
    """No part of them stays in the segment that is full; many take a segment of their size."""
    assert journal.append("l", encoded_record('"' + "x" * 100_000 + '"'))
    few = [encoded_record(f'"{n}{"x" * 1_000}"') for n in range(100)]
    assert journal.append_all("l", few)
    many = [encoded_record(f'"{n}{"y" * 1_000}"') for n in range(300)]
    assert journal.append_all("l", many)
    assert [len(texts_of(segment)) for segment in journal.segments] == [1, 100, 300]
    assert journal.segments[-1].size > 300 * 1_000
    assert drain(journal) == 401


def test_records_are_appended_together_while_others_append(journal):
    """Others fill no segment that they need, however long it takes to join them."""

    class Interrupted(str):
        def __format__(self, spec):
            assert journal.append("l", encoded_record('"other"'))
            return str(self)

    assert journal.append("l", encoded_record('"' + "x" * 100_000 + '"'))
    records = [encoded_record(Interrupted(f'"{n}{"y" * 1_000}"')) for n in range(200)]
    assert journal.append_all("l", records)
    found = [text for text in texts(journal) if text.endswith('y"')]
    assert found == [str(record.text) for record in records]
    assert texts(journal).count('"other"') == 400  # joined twice: there was no room at first
    assert drain(journal) == 601


def test_of_records_that_do_not_fit_none_is_kept(journal):
    """A full journal refuses all of them; so does one that is too small for them."""
    assert journal.append("l", encoded_record("1"))
    too_many = [encoded_record('"' + "x" * 1_000 + '"')] * 2_000
    assert not journal.append_all("l", too_many)
    assert not journal.is_full
    some = too_many[:200]
    taken = 1
    while journal.append_all("l", some):
        taken += 200
    assert journal.is_full
    assert taken > 400
    assert len(texts(journal)) == taken
    assert journal.append("l", encoded_record("2"))  # in what is left of the last segment


def test_records_are_refused_together_where_the_journal_cannot_be_opened(tmp_path):
    """Nothing is raised, and nothing kept."""
    (tmp_path / "journal").write_text("in the way")
    said = []
    target = DirectoryTarget.at(print, tmp_path / "journal")
    journal = Journal(target, MEBIBYTE, Reporter(write=said.append), open_spans=False)
    assert not journal.append_all("l", [encoded_record("1")])
    assert len(said) == 1


def test_segments_follow_one_another(journal):
    """Segments follow in order, without a gap."""
    for number in range(3_000):
        assert journal.append("l", encoded_record(f'{{"n":{number},"x":"{"x" * 200}"}}'))
    assert len(journal.segments) == 6
    assert [int(text[5:].partition(",")[0]) for text in texts(journal)] == list(range(3_000))


def test_far_behind_segments_are_larger(tmp_path):
    """A backlog takes few descriptors."""
    journal = Journal(directory_target(tmp_path), 64 * MEBIBYTE, Reporter(), open_spans=False)
    journal._segment_size = 64 * 1024
    for _ in range(4_000):
        assert journal.append("l", encoded_record('"' + "x" * 1_000 + '"'))
    sizes = [segment.size // 1024 for segment in journal.segments]
    assert sizes[:17] == [64] * 16 + [256]
    assert set(sizes[16:]) == {256}
    assert len(texts(journal)) == 4_000
    journal.reset_after_fork()


def test_full(journal):
    """A full journal refuses records, and takes them again once there is room."""
    taken = 0
    while journal.append("l", encoded_record('"' + "x" * 1_000 + '"')):
        taken += 1
    assert journal.allocated <= MEBIBYTE
    assert len(texts(journal)) == taken
    assert drain(journal) == taken
    while len(journal.segments) > 1:
        journal.finished.append(journal.segments.popleft())
    journal.delete_finished()
    assert journal.append("l", encoded_record('"' + "x" * 1_000 + '"'))


def test_record_that_is_larger_than_a_segment(journal):
    """A large record gets a segment of its own."""
    text = '"' + "x" * 300_000 + '"'
    assert journal.append("l", encoded_record("1"))
    assert journal.append("l", encoded_record(text))
    assert texts(journal) == ["1", text]
    assert not journal.append("l", encoded_record('"' + "x" * 2 * MEBIBYTE + '"'))
    assert journal.append("l", encoded_record("2"))


def test_lone_surrogate(journal):
    """A lone surrogate is repaired, as in a line."""
    assert journal.append("l", encoded_record('"\ud800"'))
    assert texts(journal) == ['"\ufffd"']


def test_each_segment_stands_for_itself(journal):
    """Each segment defines what it uses, once."""
    scopes = [Envelope(f'{{"scope":{{"name":"{name}"}},', "}") for name in "ab"]
    for number in range(3_000):
        journal.append("l", encoded_record('"' + "x" * 200 + '"', scopes[number % 2]))
    for segment in journal.segments:
        assert segment.read(HEADER_SIZE, segment.frames_end()).count(b"\nd") <= 2
    assert len(texts(journal)) == 3_000


def test_close(journal, tmp_path):
    """Closing leaves only the lock file, and only if all records have been dealt with."""
    journal.append("l", encoded_record("1"))
    assert not journal.close()
    assert journal.append("l", encoded_record("2"))
    assert drain(journal) == 2
    assert journal.close()
    assert os.listdir(tmp_path / "journal") == ["lock"]
    assert not is_owned(tmp_path / "journal")
    assert journal.append("l", encoded_record("3"))
    assert texts(journal) == ["3"]


def test_what_another_left(journal, tmp_path):
    """What an earlier process left comes first, and finding it changes nothing."""
    journal.append("l", encoded_record("1"))
    journal.reset_after_fork()
    journal._target.release_slot()  # as a death does
    other = Journal(directory_target(tmp_path), MEBIBYTE, Reporter(), open_spans=False)
    assert len(other.open().segments) == 1
    other.append("l", encoded_record("2"))
    assert texts(other) == ["1", "2"]
    other.reset_after_fork()


def test_forked_child(journal, tmp_path):
    """A forked child has a slot of its own, and touches nothing of its parent's."""
    journal.append("l", encoded_record("1"))
    child = os.fork()
    if child == 0:
        journal.append("l", encoded_record("2"))  # no hook was run: the process id told it
        os._exit(int(texts(journal) != ["2"]))
    assert os.waitpid(child, 0)[1] == 0
    journal.append("l", encoded_record("3"))
    assert texts(journal) == ["1", "3"]
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.1"]
    assert is_owned(tmp_path / "journal")
    assert not is_owned(tmp_path / "journal.1")


def test_directory_that_cannot_be_made(tmp_path, capsys):
    """The error is reported once, and records are refused."""
    (tmp_path / "file").write_text("")
    journal = Journal(directory_target(tmp_path / "file"), MEBIBYTE, Reporter(), open_spans=False)
    assert not journal.append("l", encoded_record("1"))
    assert not journal.append("l", encoded_record("2"))
    assert not journal.is_open
    assert capsys.readouterr().err.count("rimp: the journal cannot be written: cannot record") == 1


def test_directory_that_is_removed(journal, tmp_path):
    """A mapped segment goes on; a new one is refused."""
    journal.append("l", encoded_record("1"))
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    taken = 0
    while journal.append("l", encoded_record('"' + "x" * 1_000 + '"')):
        taken += 1
    assert len(texts(journal)) == taken + 1


class Collects:
    """An object that collects a record when it is garbage-collected."""

    def __init__(self, journal, done):
        self.journal = journal
        self.done = done
        self.myself = self

    def __del__(self):
        if self.journal.append("m", encoded_record("4")):
            self.done.append(1)


def test_threads_signal_handlers_and_finalisers(tmp_path):
    """With all of them at once, through many segments, no record is missing or torn."""
    journal = Journal(directory_target(tmp_path), 8 * MEBIBYTE, Reporter(), open_spans=False)
    journal._segment_size = 64 * 1024
    each = 5_000
    done = []
    fired = []

    def handler(*_):
        if journal.append("t", encoded_record("3")):
            fired.append(1)
        Collects(journal, done)

    def collect(number):
        for _ in range(each):
            journal.append("l", encoded_record(f'"{number}{"x" * 20}"'))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        threads = [threading.Thread(target=collect, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        collect(9)
        for thread in threads:
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    found = texts(journal)
    for number in (0, 1, 2, 3, 9):
        assert found.count(f'"{number}{"x" * 20}"') == each
    assert found.count("3") == len(fired)
    assert found.count("4") == len(done)
    journal.reset_after_fork()


def test_spare(journal):
    """A spare is made once anything is recorded, and taken when the segment is full."""
    journal.open()
    journal.prepare()
    assert journal.allocated == 128 * 1024
    journal.append("l", encoded_record('"x"'))
    journal.append("l", encoded_record('"' + "x" * 70_000 + '"'))
    journal.prepare()
    journal.prepare()
    assert journal.allocated == 2 * 128 * 1024
    journal.append("l", encoded_record('"' + "x" * 70_000 + '"'))
    assert journal.allocated == 2 * 128 * 1024
    assert len(texts(journal)) == 3


def test_finaliser_while_it_closes(journal, tmp_path, monkeypatch):
    """The journal stays open with a record that a finaliser collects."""
    journal.append("l", encoded_record("1"))
    drain(journal)
    delete = Segment.delete

    def collect_and_delete(segment):
        monkeypatch.undo()
        assert journal.append("l", encoded_record("2"))
        delete(segment)

    monkeypatch.setattr(Segment, "delete", collect_and_delete)
    assert not journal.close()
    assert texts(journal) == ["2"]
    assert is_owned(tmp_path / "journal")
    assert drain(journal) == 1
    assert journal.close()
    assert os.listdir(tmp_path / "journal") == ["lock"]


def test_finaliser_while_its_slot_is_released(journal, monkeypatch):
    """A record that a finaliser collects is refused: nothing is begun in that slot."""
    journal.append("l", encoded_record("1"))
    drain(journal)
    taken = []
    release = journal._target.release_slot

    def collect_and_release():
        taken.append(journal.append("l", encoded_record("2")))
        release()

    monkeypatch.setattr(journal._target, "release_slot", collect_and_release)
    assert journal.close()
    assert taken == [False]


def test_segment_that_was_begun_twice(journal):
    """If a thread and its interruption both begin a segment, both are drained."""
    journal.append("l", encoded_record("1"))
    first = journal._active
    first.freeze()
    interrupted = journal._next_segment(first, 1)
    journal._active = first
    journal._next_segment(first, 1)
    journal._active = interrupted
    journal.prepare()
    assert journal._active is journal.segments[-1]


def test_directory_that_is_removed_is_made_anew(journal, tmp_path):
    """From the next tick on, a death of the process loses nothing again."""
    journal.append("l", encoded_record("1"))
    shutil.rmtree(tmp_path)
    journal.prepare()
    assert is_owned(tmp_path / "journal")
    journal.append("l", encoded_record("2"))
    assert b" 2\n" in journal._active.path.read_bytes()
    assert texts(journal) == ["1", "2"]


def test_opening_that_hangs(tmp_path):
    """An opening that hangs holds up another thread's records once, not each of them."""
    opening, go_on = threading.Event(), threading.Event()

    class Hangs(DirectoryTarget):
        def take_slot(self):
            opening.set()
            go_on.wait()
            return super().take_slot()

    target = Hangs(print, lambda number: tmp_path / f"journal.{number}")
    journal = Journal(target, MEBIBYTE, Reporter(), open_spans=False)
    thread = threading.Thread(target=journal.append, args=("l", encoded_record("1")))
    thread.start()
    opening.wait()
    assert not journal.append("l", encoded_record("2"))
    assert journal._is_held_up
    assert not journal.append("l", encoded_record("3"))
    go_on.set()
    thread.join()
    assert journal.append("l", encoded_record("4"))
    assert texts(journal) == ["1", "4"]
    journal.reset_after_fork()


def test_child_that_records_nothing_keeps_no_slot(journal, tmp_path):
    """The parent's slot can be taken after its death, with what it left."""
    journal.append("l", encoded_record("1"))
    (begun, begin), (ended, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.write(begin, b"x")
        os.read(ended, 1)
        os._exit(0)
    os.read(begun, 1)
    journal._target.release_slot()  # as the parent's death does
    assert not is_owned(tmp_path / "journal")
    for file in (begun, begin, ended, end):
        os.close(file)
    os.waitpid(child, 0)


def test_forgotten_target_gives_its_slot_back(tmp_path):
    """The slot is released with the last reference to its target."""
    target = directory_target(tmp_path)
    target.take_slot()
    del target
    assert not is_owned(tmp_path / "journal")


def test_large_records_fill_the_journal(journal):
    """Large records get a segment each, until the journal is full for good."""
    large = encoded_record('"' + "x" * 300_000 + '"')
    while journal.append("l", large):
        pass
    assert journal.is_full
    assert len(texts(journal)) == 3
    assert [s.frames_end() > HEADER_SIZE for s in journal.segments] == [False, True, True, True]


def test_spare_is_within_the_size(tmp_path):
    """The spare is a part of the journal's size, and none is made past it."""
    journal = Journal(directory_target(tmp_path), MEBIBYTE, Reporter(), open_spans=False)
    record = encoded_record('"' + "x" * 60_000 + '"')
    while journal.append("l", record):
        journal.prepare()
        assert journal.allocated <= MEBIBYTE
    assert journal.is_full
    assert journal.allocated == MEBIBYTE
    assert len(texts(journal)) == 16
    journal.reset_after_fork()


def test_spare_where_a_larger_segment_has_no_room(tmp_path):
    """With many segments waiting the next is larger; where that has no room, the spare is taken."""
    journal = Journal(directory_target(tmp_path), 20 * 64 * 1024, Reporter(), open_spans=False)
    journal._segment_size = 64 * 1024
    record = encoded_record('"' + "x" * 60_000 + '"')
    appended = 0
    while journal.append("l", record):
        appended += 1
        journal.prepare()
    assert appended == 20
    journal.reset_after_fork()
