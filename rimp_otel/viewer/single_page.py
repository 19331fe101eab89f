"""The page as one HTML file with its records in it, which a browser opens without any server."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from rimp_otel.errors import RimpError
from rimp_otel.render.html import make_element

__all__ = ["PageSourceError", "bundle_modules", "make_single_page"]

_DIRECTORY = Path(__file__).with_name("page")
_ENTRY = "main.js"
# Records up to this size stay legible in the file.
_MAX_PLAIN = 256 * 1024

_IMPORT = re.compile(r'^import\s*\{([^{}]*)\}\s*from\s*"([^"]+)";[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async function\*?|function\*?|class|const|var) ([\w$]+))", re.M
)
_EXPORT_LIST = re.compile(r"(^|(?<=[;}]))export\s*\{([^{}]*)\};?[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"([\w$]+)(?:\s+as\s+([\w$]+))?")
# What is left of modules' syntax once all that is understood is gone.
_UNKNOWN = re.compile(r"^(?:import|export)\b.*|\bimport\.meta\b|\bimport\(", re.M)
_COMMENT = re.compile(r"^[ \t]*(?:/\*.*?\*/|//[^\n]*$)", re.MULTILINE | re.DOTALL)
_END_OF_SCRIPT = re.compile(r"</script|<!--", re.IGNORECASE)

_STYLE_LINK = re.compile(r'^<link rel="stylesheet" href="([^"]+)">\n', re.MULTILINE)
_ICON_LINK = re.compile(r'(?<=<link rel="icon" href=")([^"]+)(?=")')
_SCRIPT_LINK = f'<script type="module" src="{_ENTRY}"></script>\n'
_END_OF_BODY = "</body>"


class PageSourceError(RimpError):
    """A file of the page has a form that cannot be put into one file with the others."""


def make_single_page(lines: Iterable[bytes], title: str, view: str = "") -> bytes:
    """Return the page with records in it.

    Its policy lets it run and load what is in it, and nothing else. Records are data in it, never
    markup; many are compressed.

    Args:
        lines: of OTLP JSON.
        title: what the records are.
        view: the fragment of the URL to begin with, such as ``#/logs``.

    Raises:
        PageSourceError: the page's files are not as they were installed.
    """
    index = _read_page_file(_DIRECTORY / "index.html")
    style = "\n".join(_read_page_file(_DIRECTORY / name) for name in _STYLE_LINK.findall(index))
    script = bundle_modules(_DIRECTORY, _ENTRY)
    if index.count(_SCRIPT_LINK) != 1 or index.count(_END_OF_BODY) != 1 or "</style" in style:
        raise PageSourceError("index.html or a style of the page has an unknown form")
    head = f"{_policy_element(script, style)}\n<style>{style}</style>\n"
    recording = _recording_element(b"\n".join(lines), title, view)
    page = _ICON_LINK.sub(lambda link: _data_url(link[1]), _STYLE_LINK.sub("", index))
    before, after = page.replace(_SCRIPT_LINK, head).split(_END_OF_BODY)
    # The records stand before the script, which reads them.
    inside = f'{recording}\n<script type="module">{script}</script>\n'
    return "".join([before, inside, _END_OF_BODY, after]).encode()


def _read_page_file(path: Path) -> str:
    return path.read_text("utf-8")


def _policy_element(script: str, style: str) -> str:
    policy = (
        f"default-src 'none'; script-src '{_hash_source(script)}'; "
        f"style-src '{_hash_source(style)}'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_url(name: str) -> str:
    picture = base64.b64encode((_DIRECTORY / name).read_bytes()).decode()
    return f"data:image/svg+xml;base64,{picture}"


def _recording_element(text: bytes, title: str, view: str) -> str:
    attributes = {"id": "recording", "type": "application/x-ndjson", "data_title": title}
    if view:
        attributes["data_view"] = view
    if len(text) <= _MAX_PLAIN:
        # In JSON a "<" is always inside a string.
        return make_element("script", text.decode().replace("<", "\\u003c"), **attributes)
    packed = base64.b64encode(gzip.compress(text, mtime=0)).decode()
    return make_element("script", packed, data_encoding="gzip+base64", **attributes)


# Modules.


def bundle_modules(directory: Path, entry: str) -> str:
    """Return one script that does what a module and all that it imports do.

    Modules may import names from files below ``directory``, and export functions, classes, constants
    and lists of names. Any other form is refused, and so is a circle of imports.

    Raises:
        PageSourceError: a module has another form.
    """
    bundle = _Bundle(directory.resolve())
    bundle.add(bundle.root / entry, ())
    licences = [
        _read_page_file(path).strip() for path in sorted(bundle.root.glob("vendor/*.LICENSE"))
    ]
    return "\n".join([*(f"/*!\n{licence}\n*/" for licence in licences), *bundle.parts])


class _Bundle:
    """Modules as functions that are called once each, those that others need first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts: list[str] = []
        # By path, the variable that holds what the module exports, and its names.
        self._added: dict[Path, tuple[str, set[str]]] = {}

    def add(self, path: Path, importers: tuple[Path, ...]) -> tuple[str, set[str]]:
        """Add a module after all that it imports; return its variable and what it exports."""
        path = path.resolve()
        if path in self._added:
            return self._added[path]
        if path in importers or not path.is_relative_to(self.root):
            raise PageSourceError(f"{path.name} imports itself, or lies outside of the page")
        code = _read_page_file(path)
        heads = [
            self._import_statement(path, (*importers, path), names, target)
            for names, target in _IMPORT.findall(code)
        ]
        code = _IMPORT.sub("", code)
        uncommented = _COMMENT.sub("", code)
        exports = [(name, name) for name in _EXPORT.findall(uncommented)]
        for _, names in _EXPORT_LIST.findall(uncommented):
            exports += _parse_names(names)
        code = _EXPORT_LIST.sub("", _EXPORT.sub("", code))
        _check_code(path, code)
        variable = f"module{len(self._added)}"
        returned = ", ".join(f"{outside}: {inside}" for inside, outside in exports)
        head = "\n".join(heads)
        self.parts.append(
            f"const {variable} = (() => {{\n{head}\n{code}\nreturn {{ {returned} }};\n}})();"
        )
        self._added[path] = variable, {outside for _, outside in exports}
        return self._added[path]

    def _import_statement(
        self, path: Path, importers: tuple[Path, ...], names: str, target: str
    ) -> str:
        variable, exported = self.add(path.parent / target, importers)
        wanted = _parse_names(names)
        if missing := {outside for outside, _ in wanted} - exported:
            raise PageSourceError(f"{target} does not export {', '.join(sorted(missing))}")
        pairs = ", ".join(f"{outside}: {inside}" for outside, inside in wanted)
        return f"const {{ {pairs} }} = {variable};"


def _parse_names(names: str) -> list[tuple[str, str]]:
    """Return the names of ``a, b as c``, each as it was and as it becomes."""
    return [(before, after or before) for before, after in _NAME.findall(names)]


def _check_code(path: Path, code: str) -> None:
    if found := _UNKNOWN.search(_COMMENT.sub("", code)):
        raise PageSourceError(f"{path.name} has an unknown form of import or export: {found[0]}")
    if found := _END_OF_SCRIPT.search(code):
        raise PageSourceError(
            f"{path.name} holds {found[0]!r}, which HTML does not allow in a script"
        )
