"""The name of a service, derived from the command that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rimp_otel.collector.service_name import name_of_command


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a directory with a name."""
    path = tmp_path / "warehouse"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python app.py", "app"),
        ("/usr/bin/python3.11 -u -W error src/shop.py -m x", "shop"),
        ("python -m shop.web --port 1", "shop.web"),
        ("python -Xdev -um shop.web", "shop.web"),
        ("python shop/__main__.py", "shop"),
        ("python .", "warehouse"),
        ("python -c pass", "python"),
        ("python", "python"),
        ("./run.sh --fast", "run"),
        ("/opt/bin/my.tool", "my"),
        ("nohup env A=1 python -m shop.web", "shop.web"),
        ("timeout -k 5 10s uvicorn shop:app", "shop"),
        ("poetry run gunicorn shop:app", "shop"),
        ("uvicorn main:app --reload", "main"),
        ("uvicorn --host 0.0.0.0 --reload shop.main:app", "shop"),
        ("uvicorn --factory shop.web:create", "shop.web"),
        ("python -m uvicorn shop.asgi:application", "shop"),
        ("python /venv/bin/uvicorn shop:app", "shop"),
        ("gunicorn -w 2 shop:app", "shop"),
        (
            "gunicorn --bind 127.0.0.1:8000 -k gevent -c gunicorn.conf.py shop.wsgi:application",
            "shop",
        ),
        ("gunicorn -k gevent --preload shop.wsgi", "shop"),
        ("gunicorn config.wsgi", "warehouse"),
        ("gunicorn --config conf.py", "gunicorn"),
        ("celery -A tasks worker -l info", "tasks"),
        ("celery --app=shop.celery worker", "shop"),
        ("python -m celery -Ashop beat", "shop"),
        ("celery worker", "celery"),
        ("flask --app hello run", "hello"),
        ("flask --app shop.web:create_app('x') run", "shop.web"),
        ("python -m flask -A hello.py run", "hello"),
        ("fastapi run shop.py", "shop"),
        ("fastapi dev --entrypoint shop.main:app", "shop"),
        ("fastapi dev", "fastapi"),
        ("django-admin runserver --settings shop.settings", "shop"),
        ("./manage.py runserver", "manage"),
    ],
)
def test_commands(command: str, name: str) -> None:
    """The name is that of the application, the script, the module or the command."""
    assert name_of_command(command.split(), {}) == name


@pytest.mark.parametrize(
    ("command", "env", "name"),
    [
        ("celery worker", {"CELERY_APP": "shop.celery"}, "shop"),
        ("flask run", {"FLASK_APP": "shop"}, "shop"),
        ("django-admin check", {"DJANGO_SETTINGS_MODULE": "shop.settings.local"}, "shop"),
        ("django-admin check", {"DJANGO_SETTINGS_MODULE": "config.settings"}, "warehouse"),
    ],
)
def test_variables_that_name_the_application(command: str, env: dict[str, str], name: str) -> None:
    """Tools take it from the environment, too."""
    assert name_of_command(command.split(), env) == name


@pytest.mark.parametrize(("settings", "name"), [("shop", "shop"), ("config", "warehouse")])
def test_manage_py(directory: Path, settings: str, name: str) -> None:
    """The project is that of the settings that it names, or its directory, if those are called so anywhere."""
    (directory / "manage.py").write_text(
        f"os.environ.setdefault('DJANGO_SETTINGS_MODULE', '{settings}.settings')\n"
    )
    assert name_of_command(["python", "manage.py", "runserver"], {}) == name


def test_files_that_fastapi_and_flask_look_for(directory: Path) -> None:
    """Without an argument they run what lies in the directory."""
    (directory / "app.py").touch()
    assert name_of_command(["flask", "run"], {}) == "app"
    assert name_of_command(["fastapi", "run"], {}) == "app"


_INSTALL = """\
import rimp_otel
telemetry = rimp_otel.install(path="t", quiet=True)
telemetry.collector.collect_event("a", "b")
telemetry.shutdown()
print([event.resource.attributes["service.name"] for event in telemetry.storage.retrieve().events])
"""


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "orders"), ({"OTEL_SERVICE_NAME": "own"}, "own")],
)
def test_install_names_the_service(directory: Path, given: dict[str, str], name: str) -> None:
    """A process that records itself has the same name as under ``rimp run``; a given one has priority."""
    (directory / "orders.py").write_text(_INSTALL)
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "RIMP_"))
    }
    done = subprocess.run(
        [sys.executable, "orders.py"],
        env={**env, **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"['{name}']\n", "")


def test_the_configurator_names_the_service(directory: Path) -> None:
    """OTEL_PYTHON_CONFIGURATOR=rimp gives the same name to spans."""
    pytest.importorskip("opentelemetry.instrumentation")
    (directory / "orders.py").write_text(
        "from opentelemetry import trace\n"
        "print(trace.get_tracer_provider().resource.attributes['service.name'])\n"
    )
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "RIMP_"))
    }
    start = "opentelemetry.instrumentation.auto_instrumentation"
    code = f"from {start} import run; run()"
    env |= {"OTEL_PYTHON_CONFIGURATOR": "rimp", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code, "python", "orders.py"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "orders\n"
