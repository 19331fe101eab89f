"""The server of ``rimp ui``: who may ask, and that nothing is written."""

from __future__ import annotations

import os
import socket

import pytest

pytest.importorskip("starlette")

from rimp_otel.errors import NoRecordingError
from tests.transport.serving import DEADLINE, JSON, Served
from tests.viewer.shown import OURS, TOKEN, Shown

ANSWER = "/jaeger/api/services"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Show a recording that does not exist."""
    path = tmp_path_factory.mktemp("shown") / "none"
    with Shown(path) as running:
        yield running
    assert not path.exists()


def test_the_token(shown):
    """Answers need it; the message says how it is sent."""
    assert shown.request("GET", ANSWER).status == 200
    for value in (None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"):
        headers = {} if value is None else {"Authorization": value}
        for path in (ANSWER, "/api/live", "/api/nothing", "/metrics", "/nothing"):
            response = shown.request("GET", path, headers)
            assert response.status == 401, (value, path)
            assert b"Authorization: Bearer TOKEN" in response.body
    assert shown.request("GET", "/api/live", {}).json == {
        "error": "the token is missing or wrong: send the header Authorization: Bearer TOKEN"
    }
    assert shown.request("GET", f"{ANSWER}?token={TOKEN}", {}).status == 401


HOSTS = [
    ("127.0.0.1", 200),
    ("localhost:7467", 200),
    ("LOCALHOST.", 200),
    ("[::1]:7467", 200),
    ("rimp.localhost", 200),
    ("127.0.0.1.evil.example", 403),
    ("evil.example:7467", 403),
    ("localhost.evil.example", 403),
    ("evil", 403),
    ("192.168.0.1", 403),
    ("0.0.0.0:7467", 403),
    ("[::ffff:8.8.8.8]", 403),
    ("", 403),
    ("[", 403),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_the_host(shown, host, status):
    """Only names of this machine, also with the token: no page can rebind its own name."""
    for path in (ANSWER, "/"):
        found = shown.request("GET", path, {**OURS, "Host": host}).status
        assert found in ((200, 404) if status == 200 else (403,)), path


def test_the_origin(shown):
    """Only the page itself may ask, whatever a browser tells of another one."""
    own = f"http://127.0.0.1:{shown.address.port}"
    assert shown.request("GET", ANSWER, {**OURS, "Origin": own}).status == 200
    for origin in (
        "null",
        "http://evil.example",
        "https" + own[4:],
        own + "0",
        "file://",
        own[:-1],
    ):
        for method, path in (("GET", ANSWER), ("POST", "/api/sql"), ("OPTIONS", ANSWER)):
            asked = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
            response = shown.request(method, path, {**OURS, **asked, "Origin": origin})
            assert response.status == 403, (origin, method)
            assert "access-control-allow-origin" not in response.headers


def test_images_and_scripts_of_other_pages(shown):
    """Browsers send no origin with them; they tell that another site asks."""
    for site in ("cross-site", "same-site"):
        for path in (ANSWER, "/", "/main.js"):
            headers = {**OURS, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
            assert shown.request("GET", path, headers).status == 403
        followed = {**OURS, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert shown.request("GET", ANSWER, followed).status == 200
    own = {**OURS, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert shown.request("GET", ANSWER, own).status == 200


def test_headers_for_browsers(shown):
    """On each answer, also on errors: scripts only of the page, nothing for other pages."""
    for path in ("/", ANSWER, "/api/live?x", "/nothing"):
        for headers in (OURS, {}):
            found = shown.request("HEAD", path, headers).headers
            policy = dict(
                part.strip().split(" ", 1) for part in found["content-security-policy"].split(";")
            )
            assert policy == {
                "default-src": "'none'",
                "script-src": "'self'",
                "style-src": "'self'",
                "img-src": "'self' data: blob:",
                "connect-src": "'self'",
                "font-src": "'self'",
                "base-uri": "'none'",
                "form-action": "'none'",
                "frame-ancestors": "'none'",
            }
            assert found["x-content-type-options"] == "nosniff"
            assert found["referrer-policy"] == "no-referrer"
            assert found["cross-origin-opener-policy"] == "same-origin"
            assert found["cross-origin-resource-policy"] == "same-origin"


def test_what_is_not_there(shown):
    """404 says where the page is; other methods are not allowed."""
    response = shown.request("GET", "/api/nothing")
    assert (response.status, response.json) == (
        404,
        {"error": "there is nothing at /api/nothing: the page is at /"},
    )
    assert shown.request("POST", "/v1/traces", {**OURS, **JSON}, "{}").status == 404
    for method in ("PUT", "DELETE", "PATCH", "POST", "X"):
        assert shown.request(method, "/api/live").status == 405
    for path in ("/..%2f..%2fetc/passwd", "/api/..%2f..%2fetc/passwd", "//etc/passwd", "/%2e%2e/x"):
        assert shown.request("GET", path).status == 404


def test_requests_that_are_too_long(shown):
    """They cost an answer, and the next one is answered."""
    assert shown.request("GET", f"{ANSWER}?x={'y' * 50_000}").status == 200
    with socket.create_connection(("127.0.0.1", shown.address.port), DEADLINE) as sender:
        sender.sendall(b"GET /?" + b"x" * 200_000 + b" HTTP/1.1\r\n")
        assert sender.recv(12) == b"HTTP/1.1 400"
    assert shown.request("GET", ANSWER).status == 200


def test_a_file_that_is_no_recording(tmp_path):
    """It is told before anything is served."""
    path = tmp_path / "x.jsonl"
    path.write_text("{}")
    with pytest.raises(NoRecordingError, match="no recording"):
        Shown(path)
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_under_rimp_serve(tmp_path):
    """The page is there too, and needs a token where senders need one; its files need none."""
    with Served(tmp_path / "t", env={"RIMP_SERVE_TOKEN": TOKEN}) as served:
        assert served.request("GET", "/", headers={}).status != 401
        assert served.request("GET", ANSWER, headers={}).status == 401
        assert served.request("GET", ANSWER, headers=OURS).status == 200
        assert served.request("POST", "/", headers={}).status == 401
        served.end()
    with Served(tmp_path / "t", "--allow-origin", "https://app.example") as served:
        assert served.request("GET", ANSWER, headers={}).status == 200
        page = {"Origin": "https://app.example"}
        assert served.request("POST", "/v1/logs", "{}", {**JSON, **page}).status == 200
        # It may send; what is recorded is not its.
        assert served.request("GET", ANSWER, headers=page).status == 403
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert served.request("GET", ANSWER, headers=headers).status == 403
            assert served.request("GET", "/", headers=headers).status == 403
        served.end()


QUESTIONS = [
    *("/api/info", "/api/overview", "/api/operations", "/api/map", "/api/traces", "/api/logs"),
    *("/api/logs/histogram", "/api/errors", "/api/metrics", "/api/metrics/series?name=x"),
    *("/api/attributes", "/api/attributes/values?scope=span&key=x", "/api/sql/schema"),
    f"/api/traces/{1:032x}",
    *("/jaeger/api/services", "/jaeger/api/traces?service=x", "/jaeger/api/dependencies"),
    *("/jaeger/api/services/x/operations", f"/jaeger/api/traces/{1:032x}"),
    *("/jaeger/api/v3/services", "/jaeger/api/v3/operations?service=x"),
    *("/tempo/api/search?q=%7B%7D", "/tempo/api/v2/search/tags", f"/tempo/api/traces/{1:032x}"),
    *("/tempo/api/v2/search/tag/name/values", f"/tempo/api/v2/traces/{1:032x}"),
    "/tempo/api/metrics/query_range?q=%7B%7D%7Crate()&start=1&end=2",
]


@pytest.mark.parametrize("target", QUESTIONS)
def test_every_answer_has_a_limit_of_time(hurried, target):
    """Whichever API asks; and each needs the token."""
    response = hurried.request("GET", target)
    assert (response.status, b"stopped after 1e-06 s" in response.body) == (504, True), response
    assert hurried.request("GET", target, {}).status == 401


@pytest.fixture(scope="module")
def hurried(tmp_path_factory):
    """Show a recording so that no answer has the time for it."""
    with Shown(tmp_path_factory.mktemp("hurried") / "t", timeout=1e-6) as running:
        yield running
