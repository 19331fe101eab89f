"""ClickHouse for tests: chDB, the same engine in a process, behind ClickHouse's HTTP interface.

``python -m tests.clickhouse DIRECTORY PORT`` serves the databases of a directory; ``start_clickhouse`` runs
that. What is sent as a setting is set, parameters are bound, and inserts come in whatever format the client
chose. ``/control`` has the next inserts hang, once they are committed, or fail.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import zstandard

from tests.processes import ROOT

__all__ = ["ClickHouse", "start_clickhouse", "unused_database"]

_INSERT = re.compile(rb"\s*(INSERT\s+INTO\s.*?)\s+FORMAT\s+(\w+)\s*", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)")
# Parameters of a request that are no settings.
_TRANSPORT = {
    *("query", "database", "default_format", "compress", "decompress", "session_id", "query_id"),
    *("wait_end_of_query", "user", "password", "role", "buffer_size", "client_protocol_version"),
    *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "quota_key"),
    *("enable_http_compression", "cancel_http_readonly_queries_on_client_close"),
}


class ClickHouse:
    """A server that runs, and what tests ask of it."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory
        command = [sys.executable, "-m", "tests.clickhouse", str(directory), str(port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.strip().isdecimal(), f"the server did not start: {line!r}"
        self.port = int(line)

    def url(self, database: str, scheme: str = "clickhouse+http", query: str = "") -> str:
        """Return the URL of a database, for a storage or a destination."""
        return f"{scheme}://127.0.0.1:{self.port}/{database}{query and f'?{query}'}"

    def ask(self, query: str) -> list[list]:
        """Return the rows of a query."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/?default_format=JSONCompactEachRow", query.encode()
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def clear(self, database: str) -> None:
        """Delete all rows of a database."""
        tables = self.ask(
            f"SELECT name FROM system.tables WHERE database = '{database}' AND total_rows > 0"
        )
        for (name,) in tables:
            self.ask(f"TRUNCATE TABLE `{database}`.`{name}`")

    def control(self, **faults: int) -> dict:
        """Have the next inserts ``hang`` or ``fail``; return what there was since the last call.

        ``after`` is how many inserts go well before, and ``wait`` for how many that hang to wait.
        """
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/control", json.dumps(faults).encode()
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def cpu_time(self) -> float:
        """Return the seconds of CPU that it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Kill it, as nothing but a loss of power ends it otherwise."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def start_clickhouse(directory: Path, port: int = 0) -> ClickHouse:
    """Return a server over the databases of a directory."""
    return ClickHouse(directory, port)


_numbers = count(1)


def unused_database() -> str:
    """Return the name of a database that there is not yet."""
    return f"test{next(_numbers)}"


# The server.


class _Faults:
    """What was asked for at /control, and what came of it."""

    def __init__(self) -> None:
        self.hang = self.fail = self.after = 0
        self.seen = {"inserts": 0, "hanging": 0, "queries": 0}
        self.changed = threading.Condition()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet
    session = None
    database = ""
    lock = threading.Lock()
    faults = _Faults()

    def log_message(self, *arguments):
        """Say nothing."""

    def do_GET(self):
        """Answer /ping."""
        self._answer(200, b"Ok.\n")

    def do_POST(self):
        """Run a query."""
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._read_chunk, b""))
        body = _decompress(body, self.headers.get("Content-Encoding"))
        if parts.path == "/control":
            self._control(json.loads(body or b"{}"))
            return
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "multipart" in self.headers.get("Content-Type", ""):
            raise NotImplementedError("queries as forms")
        try:
            with self.lock:
                answer, format = self._run(parameters, body)
        except Exception as error:
            code = _CODE.search(str(error))
            headers = {"X-ClickHouse-Exception-Code": code[1]} if code else {}
            self._answer(500, str(error).encode(), headers)
            return
        if answer is None:
            self.close_connection = True  # it hangs until the client is gone
            return
        self._answer(200, answer, {"X-ClickHouse-Format": format} if format else {})

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _control(self, asked):
        faults = self.faults
        if "hang" in asked or "fail" in asked:
            faults.hang, faults.fail = asked.get("hang", 0), asked.get("fail", 0)
            faults.after = asked.get("after", 0)
        if "wait" in asked:
            with faults.changed:
                faults.changed.wait_for(lambda: faults.seen["hanging"] >= asked["wait"], 60)
        seen, faults.seen = faults.seen, dict.fromkeys(faults.seen, 0)
        self._answer(200, json.dumps(seen).encode())

    def _run(self, parameters, body):
        query = parameters.get("query", "").encode()
        text = query + b"\n" + body if query else body
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in _TRANSPORT and not name.startswith("param_")
        }
        bound = {
            name.removeprefix("param_"): value
            for name, value in parameters.items()
            if name.startswith("param_")
        }
        database = parameters.get("database") or "default"
        if database != self.database:
            self.session.query(f"USE `{database}`")
            type(self).database = database
        clause = ", ".join(f"{name} = {_quoted(value)}" for name, value in settings.items())
        clause = clause and f" SETTINGS {clause}"
        found = _INSERT.match(text)
        if found:
            statement = found[1].decode() + clause
            return self._insert(statement, found[2].decode(), text[found.end() :])
        return self._ask(text.decode(), clause, parameters.get("default_format"), bound)

    def _insert(self, statement, format, data):
        faults = self.faults
        faults.seen["inserts"] += 1
        if faults.fail:
            faults.fail -= 1
            raise RuntimeError("Code: 243. DB::Exception: Not enough space. (NOT_ENOUGH_SPACE)")
        inserter = self.session.send_insert(statement, format)
        inserter.append(data)
        inserter.finish()
        if not faults.hang or faults.after:
            faults.after -= faults.after > 0
            return b"", None
        faults.hang -= 1
        with faults.changed:
            faults.seen["hanging"] += 1
            faults.changed.notify_all()
        self.lock.release()
        try:
            with suppress(OSError):
                self.connection.recv(1)
        finally:
            self.lock.acquire()
        return None, None

    def _ask(self, text, clause, default_format, bound):
        self.faults.seen["queries"] += 1
        named = _FORMAT.search(text)
        format = named[1] if named else default_format or "TabSeparated"
        if "X-ClickHouse-Format" in self.headers and not named:
            format = self.headers["X-ClickHouse-Format"]
        # Settings of statements that change something are of no consequence here.
        if text.lstrip()[:6].upper() == "SELECT":
            text = (text[: named.start()] if named else text) + clause
        result = self.session.query(text, format, params=bound)
        data = result.bytes() if result else b""
        return data or b"", format if data else None

    def _answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _quoted(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _decompress(body, encoding):
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if encoding == "lz4":
        import lz4.frame

        return lz4.frame.decompress(body)
    assert encoding in (None, "identity"), encoding
    return body


def _serve(directory: str, port: int) -> None:
    from chdb.session import Session

    _Handler.session = Session(directory)
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
