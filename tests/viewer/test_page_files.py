"""The files of the page, as they are served."""

from __future__ import annotations

import gzip
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")

from starlette.routing import Router

from rimp_otel.transport.receiving.address import ListenAddress, open_sockets
from rimp_otel.transport.receiving.http_server import HttpServer
from rimp_otel.viewer.page_files import PAGE_DIRECTORY, PageFiles
from tests.transport.serving import DEADLINE, Served

SCRIPT = b"export const answer = 42;\n" * 100
ICON = b"<svg/>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve a page of a few files, beside one that is not of it."""
    tmp_path = tmp_path_factory.mktemp("files")
    page = tmp_path / "page"
    (page / "views").mkdir(parents=True)
    (page / "index.html").write_bytes(b"<!doctype html>")
    (page / "views" / "main.js").write_bytes(SCRIPT)
    (page / "icon.svg").write_bytes(ICON)
    (page / "LICENSE").write_bytes(b"not served")
    (tmp_path / "secret.json").write_bytes(b"{}")
    files = PageFiles(page)
    assert files.paths == {"/", "/index.html", "/views/main.js", "/icon.svg"}
    with serving(files) as client:
        yield client


@contextmanager
def serving(files):
    """Serve the files, and yield a client."""
    sockets = open_sockets(ListenAddress("127.0.0.1", 0))
    running = HttpServer(Router(routes=files.routes(), redirect_slashes=False), sockets)
    address = sockets[0].getsockname()
    running.start()
    client = Served.__new__(Served)
    client.http = "http://{}:{}".format(*address)
    yield client
    assert running.stop(DEADLINE)


def get(server, path, **headers):
    """Return the answer to GET."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("GET", path, headers=names)


def test_types_and_compression(server):
    """Each has its type; what gets smaller is compressed for who takes it."""
    assert get(server, "/").headers["content-type"] == "text/html; charset=utf-8"
    assert get(server, "/").body == get(server, "/index.html").body == b"<!doctype html>"
    assert get(server, "/icon.svg", Accept_Encoding="gzip").body == ICON
    plain = get(server, "/views/main.js", Accept_Encoding="br, gzip;q=0")
    assert (plain.body, plain.headers["content-type"]) == (SCRIPT, "text/javascript; charset=utf-8")
    zipped = get(server, "/views/main.js", Accept_Encoding="br;q=1, GZIP;q=0.5")
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == SCRIPT
    assert int(zipped.headers["content-length"]) == len(zipped.body) < len(SCRIPT) / 5
    assert {plain.headers["vary"], zipped.headers["vary"]} == {"Accept-Encoding"}


def test_caching(server):
    """A file is asked for each time, and sent once."""
    first = get(server, "/views/main.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for sent in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = get(server, "/views/main.js", If_None_Match=sent)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert get(server, "/views/main.js", If_None_Match='"x"').status == 200


def test_head_and_other_methods(server):
    """HEAD has the headers alone; the others are not allowed."""
    head = server.request("HEAD", "/views/main.js", headers={})
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(SCRIPT))
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "X"):
        assert server.request(method, "/views/main.js", headers={}).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/LICENSE",
        "/views",
        "/views/",
        "/../secret.json",
        "/..%2fsecret.json",
        "/%2e%2e/secret.json",
        "/views/..%2f..%2fsecret.json",
        "/views/../../secret.json",
        "/..%5csecret.json",
        "//secret.json",
        "/index.html/",
        "/index.html%00.js",
        "/INDEX.HTML",
    ],
)
def test_nothing_else(server, path):
    """Only the names of the page's files lead anywhere."""
    assert get(server, path).status == 404


def test_the_first_module_brings_all_others(tmp_path):
    """main.js is sent with all that it imports, which each other module still is on its own."""
    (tmp_path / "main.js").write_text('import { greet } from "./greet.js";\ngreet();\n')
    (tmp_path / "greet.js").write_text("export function greet() {}\n")
    with serving(PageFiles(tmp_path)) as server:
        assert b"function greet() {}" in get(server, "/main.js").body
        assert get(server, "/greet.js").body == b"export function greet() {}\n"


def test_the_size_of_the_page():
    """All that is served is less than 300 kB, as it is sent."""
    assert PageFiles(PAGE_DIRECTORY).transfer_size < 300_000
