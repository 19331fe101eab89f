"""Records for journals, and looking into them."""

from __future__ import annotations

from rimp_otel.errors import StorageError
from rimp_otel.journal.target import DirectoryTarget, End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, Envelope

RESOURCE = Envelope('{"resource":{},', "}")
SCOPE = Envelope('{"scope":{"name":"s"},', "}")
METRIC = Envelope('{"name":"m","gauge":{"dataPoints":[', "]}}")
PAD = "x" * 500


def log(number):
    """Return a log record."""
    return EncodedRecord(1, RESOURCE, SCOPE, None, f'{{"body":{{"stringValue":"{number} {PAD}"}}}}')


def span(number):
    """Return a span."""
    text = f'{{"traceId":"{number:032x}","spanId":"{number:016x}","name":"{number} {PAD}"}}'
    return EncodedRecord(1, RESOURCE, SCOPE, None, text)


def point(number):
    """Return a data point."""
    return EncodedRecord(1, RESOURCE, SCOPE, METRIC, f'{{"asInt":"{number}"}}')


def append(journal, number):
    """Append one record of each signal."""
    assert journal.append("l", log(number))
    assert journal.append("t", span(number))
    assert journal.append("m", point(number))


def numbers_of(batches):
    """Return the numbers of the records, by signal, in their order."""
    return {
        Signal.LOGS: [int(e.message.split()[0]) for data in batches for e in data.events],
        Signal.TRACES: [int(s.name.split()[0]) for data in batches for s in data.spans],
        Signal.METRICS: [m.value for data in batches for m in data.metrics],
    }


def directory_target(path):
    """Return a target with journals in a directory, for a storage that keeps nothing."""
    return DirectoryTarget.at(print, path)


def die(journal):
    """Do what a death does: nothing is written any more, and the lock is gone."""
    journal.reset_after_fork()
    journal._target.release_slot()


class FileTarget(DirectoryTarget):
    """A target whose files are lists of lines."""

    reverts_failed_store = True

    def __init__(self, path):
        super().__init__(lambda data: None, lambda n: path / (f"journal.{n}" if n else "journal"))
        self.path = path
        self.lines = {signal: [] for signal in Signal}
        #: What happens before each line is there, and after.
        self.before = self.after = lambda: None
        self.failing = False

    def store(self, signal, data, before):
        """Append the batch's lines."""
        if self.failing:
            raise StorageError("the disk is full")
        lines = data.otlp_json(signal)
        start = self.end_of(signal)
        before(start, sum(len(line) + 1 for line in lines))
        self.before()
        self.lines[signal].extend(lines)
        self.after()
        return self.end_of(signal)

    def end_of(self, signal):
        """Return where the signal's file ends."""
        return End(7, sum(len(line) + 1 for line in self.lines[signal]))

    def ends(self):
        """Return where all files end."""
        return {signal: self.end_of(signal) for signal in Signal}

    def resolve_append(self, signal, start, length):
        """Return True if a write is complete."""
        return self.end_of(signal).offset >= start.offset + length

    def lines_after(self, signal, start):
        """Return the lines from there on."""
        found, offset = [], 0
        for line in self.lines[signal]:
            if start.file_id == 7 and offset >= start.offset:
                found.append(line)
            offset += len(line) + 1
        return found

    def lines_since(self, signal, time):
        """Return all lines."""
        return self.lines[signal]

    def sync(self):
        """Do nothing."""
