"""The page as one HTML file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rimp_otel.viewer.single_page import PageSourceError, bundle_modules, make_single_page

LINE = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}'


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of scripts and styles."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_raw = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._is_raw = tag in ("script", "style")
        if self._is_raw:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_raw = False

    def handle_data(self, data: str) -> None:
        if self._is_raw:
            self.texts[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a name."""
        return [attributes for name, attributes in self.found if name == tag]


def test_self_contained() -> None:
    """Nothing in it is loaded from elsewhere, and its policy allows its own script and style alone."""
    elements = Elements(make_single_page([LINE], "checkout"))
    urls = [
        attributes[name]
        for _, attributes in elements.found
        for name in ("src", "href")
        if name in attributes
    ]
    assert [url and url[:26] for url in urls] == ["data:image/svg+xml;base64,"]
    style, recording, script = elements.texts
    assert recording.encode() == LINE
    policies = [one["content"] for one in elements.of("meta") if "http-equiv" in one]
    assert policies == [
        f"default-src 'none'; script-src '{source_of(script)}'; style-src '{source_of(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    ]


def source_of(text: str) -> str:
    """Return what allows a script or a style of this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_hostile_text() -> None:
    """Recorded text, titles and views are data: none of them begins or ends an element."""
    text = '</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">'
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": text}]}]}]})
    page = make_single_page([line.encode()], f'"{text}', f'#/logs?text="{text}')
    elements = Elements(page)
    scripts = elements.of("script")
    assert scripts == [
        {
            "id": "recording",
            "type": "application/x-ndjson",
            "data-title": f'"{text}',
            "data-view": f'#/logs?text="{text}',
        },
        {"type": "module"},
    ]
    assert not elements.of("img")
    assert json.loads(elements.texts[1]) == json.loads(line)


def test_many_records() -> None:
    """Many records are compressed, and nothing of them is lost."""
    lines = [LINE] * 5_000
    elements = Elements(make_single_page(lines, "many"))
    recording = elements.of("script")[0]
    assert recording["data-encoding"] == "gzip+base64"
    assert gzip.decompress(base64.b64decode(elements.texts[1])) == b"\n".join(lines)


def test_licences() -> None:
    """The licences of what others wrote are in it."""
    page = make_single_page([], "").decode()
    assert page.count("Permission is hereby granted, free of charge") >= 3
    assert "Apache License" in page


def test_no_extra() -> None:
    """It needs no extra."""
    code = (
        "import sys, rimp_otel.viewer.single_page as page; page.make_single_page([], '');"
        "print({'starlette', 'duckdb', 'opentelemetry'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def write_modules(path: Path, **modules: str) -> Path:
    """Write modules, and return their directory."""
    for name, text in modules.items():
        (path / f"{name}.js").write_text(text)
    return path


def test_modules(tmp_path: Path) -> None:
    """Each module becomes a function that is called once, after those that it imports from."""
    write_modules(
        tmp_path,
        main='import {\n  one,\n  two as second,\n} from "./a.js";\nimport { three } from "./b.js";\nuse(one);\n',
        a='/** See {@link three}. */\nimport { three } from "./b.js";\n'
        "export const one = three;\nfunction two() {}\nexport { two };\n",
        b="export async function three() {}\nexport class Four {}\n",
    )
    script = bundle_modules(tmp_path, "main.js")
    assert script.splitlines() == [
        "const module0 = (() => {",
        "",
        "async function three() {}",
        "class Four {}",
        "",
        "return { three: three, Four: Four };",
        "})();",
        "const module1 = (() => {",
        "const { three: three } = module0;",
        "/** See {@link three}. */",
        "",
        "const one = three;",
        "function two() {}",
        "",
        "",
        "return { one: one, two: two };",
        "})();",
        "const module2 = (() => {",
        "const { one: one, two: second } = module1;",
        "const { three: three } = module0;",
        "",
        "",
        "use(one);",
        "",
        "return {  };",
        "})();",
    ]


@pytest.mark.parametrize(
    ("main", "message"),
    [
        (
            'import * as a from "./a.js";',
            "main.js has an unknown form of import or export: import *",
        ),
        ('import a from "./a.js";', "unknown form of import or export: import a from"),
        ('import "./a.js";', "unknown form of import or export"),
        ("export default 1;", "unknown form of import or export: export default 1;"),
        ("export let a = 1;", "unknown form of import or export: export let a = 1;"),
        ('const a = await import("./a.js");', "unknown form of import or export"),
        ("use(import.meta.url);", "unknown form of import or export: import.meta"),
        ('import { b } from "./a.js";', "./a.js does not export b"),
        ('import { a } from "./main.js";', "main.js imports itself, or lies outside of the page"),
        ('import { a } from "../a.js";', "a.js imports itself, or lies outside of the page"),
        ('use("</SCRIPT>");', "main.js holds '</SCRIPT', which HTML does not allow in a script"),
    ],
)
def test_refused_modules(tmp_path: Path, main: str, message: str) -> None:
    """A form that would be understood wrongly is refused."""
    directory = tmp_path / "page"
    directory.mkdir()
    write_modules(directory, main=main + "\n", a="export const a = 1;\n")
    with pytest.raises(PageSourceError) as failed:
        bundle_modules(directory, "main.js")
    assert message in str(failed.value)
