"""Instrumentation is loaded when its library is imported, and Django's when its settings are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_run import RIMP, environment

pytest.importorskip("opentelemetry.instrumentation")

_INSTRUMENTOR = """\
import {library}

class Instrumentor:
    def instrument(self, **kwargs):
        {code}
"""


def install_library(site: Path, library: str, code: str, requires: str = "") -> None:
    """Put a distribution's metadata, and an instrumentation for it, into a directory of packages."""
    own = site / f"{library}-1.0.dist-info"
    own.mkdir()
    (own / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 1.0\n")
    (site / f"instr_{library}.py").write_text(_INSTRUMENTOR.format(library=library, code=code))
    info = site / f"instr_{library}-1.0.dist-info"
    info.mkdir()
    requires = requires or f"{library} >= 1"
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: instr-{library}\nVersion: 1.0\n"
        f"Provides-Extra: instruments\nRequires-Dist: {requires}; extra == 'instruments'\n"
    )
    (info / "entry_points.txt").write_text(
        f"[opentelemetry_instrumentor]\n{library} = instr_{library}:Instrumentor\n"
    )


def run_recorded(site: Path, code: str, *options: str) -> tuple[str, str]:
    """Run a program under ``rimp run``; return what it prints, and what is on standard error."""
    done = subprocess.run(
        [*RIMP, "run", *(options or ["--quiet"]), "--", sys.executable, "-c", code],
        env={**environment(), "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout, done.stderr


def test_a_library_is_instrumented_when_it_is_imported(tmp_path: Path) -> None:
    """Nothing is imported that the program does not import, and no name is taken before it is replaced."""
    (tmp_path / "shoplib.py").write_text("name = 'plain'\n")
    install_library(tmp_path, "shoplib", "shoplib.name = 'instrumented'")
    code = "import sys; print('shoplib' in sys.modules); from shoplib import name; print(name)"
    assert run_recorded(tmp_path, code) == ("False\ninstrumented\n", "")


def test_a_version_that_does_not_fit(tmp_path: Path) -> None:
    """It is left alone, without a word on the program's standard error."""
    (tmp_path / "shoplib.py").write_text("name = 'plain'\n")
    install_library(tmp_path, "shoplib", "shoplib.name = 'instrumented'", "shoplib >= 2")
    code = "import shoplib; print(shoplib.name)"
    assert run_recorded(tmp_path, code) == ("plain\n", "")
    _, err = run_recorded(tmp_path, code, f"--path={tmp_path / 'x'}")
    said = "; instr-shoplib 1.0 does not instrument shoplib 1.0, it wants shoplib>=2\n"
    assert err.endswith(said)


def test_an_instrumentation_that_fails(tmp_path: Path) -> None:
    """The library is imported all the same, and the reason is said."""
    (tmp_path / "shoplib.py").write_text("name = 'plain'\n")
    install_library(tmp_path, "shoplib", "raise AttributeError('gone')")
    out, err = run_recorded(tmp_path, "import shoplib; print(shoplib.name)")
    assert out == "plain\n"
    assert err == "rimp: shoplib is not instrumented: AttributeError('gone')\n"


def test_what_gevent_has_to_patch_is_not_imported(tmp_path: Path) -> None:
    """The modules that gevent and eventlet warn about when something was faster than they."""
    code = (
        "import sys; print([name for name in ('ssl', 'asyncio', 'urllib3') if name in sys.modules])"
    )
    assert run_recorded(tmp_path, code) == ("[]\n", "")


def test_django_is_instrumented_when_its_settings_are_there(tmp_path: Path) -> None:
    """Before the list of middlewares is made, and not before the settings are configured."""
    core = tmp_path / "django" / "core" / "handlers"
    core.mkdir(parents=True)
    for package in (core, core.parent, core.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "django" / "conf.py").write_text(
        "class settings:\n    configured = False\n    MIDDLEWARE = ['theirs']\n"
    )
    (core / "base.py").write_text(
        "from django.conf import settings\n"
        "class BaseHandler:\n"
        "    def load_middleware(self, is_async=False):\n"
        "        print(settings.MIDDLEWARE)\n"
    )
    install_library(
        tmp_path,
        "django",
        "from django.conf import settings; assert settings.configured; settings.MIDDLEWARE.insert(0, 'ours')",
    )
    code = (
        "import django; from django.core.handlers.base import BaseHandler; from django.conf import settings\n"
        "settings.configured = True\n"
        "BaseHandler().load_middleware()\n"
        "BaseHandler().load_middleware(is_async=True)\n"
        "print(BaseHandler.load_middleware.__module__)\n"
    )
    both = "['ours', 'theirs']\n"
    assert run_recorded(tmp_path, code) == (f"{both}{both}django.core.handlers.base\n", "")
