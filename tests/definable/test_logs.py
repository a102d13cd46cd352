"""What the log of every process looks like, and what it never says."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import structlog
from django.conf import settings
from django.db import IntegrityError, connection
from django.test import Client, override_settings
from django.urls import path

from definable import logs
from definable.launcher.postgres import SETTINGS
from tests.factories import make_team

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
HOSTILE = 'first\r\nsecond {"level": "info"} \x1b[31mred\x1b[0m \u202eback\u202c \u2028 \x00 \x07'


@pytest.fixture
def lines(capsys) -> Callable[[], list[dict]]:
    """Read what was logged since the last time, line by line."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail(request, token):
    canary = "a local variable"
    raise RuntimeError(f"{KEY}\nprompt text on a later line{canary[:0]}")


fail.login_required = False
urlpatterns = [path("invite/<str:token>/", fail)]
handler500 = "definable.errors.server_error"


@pytest.mark.requirement("RED-9")
@pytest.mark.parametrize("write", [logging.getLogger("any").warning, structlog.get_logger("any").warning])
def test_a_fact_is_one_line_whatever_the_text_holds(capsys, write):
    write(HOSTILE)

    written = capsys.readouterr().err
    assert written.isascii()
    assert [letter for letter in written[:-1] if letter < " "] == []
    assert json.loads(written)["event"] == HOSTILE


@pytest.mark.requirement("RED-9")
def test_a_fact_keeps_its_fields_and_names_its_process(lines, monkeypatch):
    monkeypatch.setenv("DEFINABLE_ROLE", "worker")
    structlog.get_logger("personas.queue").warning("hint.not_sent", count=2, names=("a", None))

    (line,) = lines()
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "role": "worker",
        "logger": "personas.queue",
        "event": "hint.not_sent",
        "count": 2,
        "names": ["a", None],
    }


@pytest.mark.requirement("RED-9")
@pytest.mark.parametrize("role", ["web", "worker", "beat"])
def test_a_process_of_its_own_logs_json_alone(role):
    """Django, Celery, warnings and a crash too, set up as the process does it."""
    code = """
import django, logging, warnings
from definable.celery import app
django.setup()
app.log.setup(loglevel="DEBUG", redirect_stdouts=True)
logging.getLogger("celery.worker").error("from %s", "celery")
logging.getLogger("uvicorn.error").error("from uvicorn")
logging.getLogger("django.request").error("from django")
warnings.warn("from python")
canary = "a local of the crash"
raise SystemError("crashed" + chr(10) + "second line")
"""
    environment = os.environ | {"DEFINABLE_ROLE": role, "DJANGO_SETTINGS_MODULE": "definable.settings"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert ended.stdout == ""
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in told[:3]] == ["from celery", "from uvicorn", "from django"]
    assert told[3]["logger"] == "py.warnings"
    assert told[4]["errors"][0]["said"] == "crashed"
    assert {line["role"] for line in told} == {role}
    assert "a local of the crash" not in ended.stderr


@pytest.mark.requirement("RED-1")
@pytest.mark.parametrize(
    ("said", "written"),
    [
        (f"refused {KEY}.", "refused [removed]."),
        (f"%22{KEY}%22", "%22[removed]%22"),
        ("pk-live-12345678", "[removed]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [removed]"),
        ("postgresql://app:pass@host/db", "postgresql://[removed]@host/db"),
        ("redis://:pass@host:6379/0", "redis://[removed]@host:6379/0"),
        ("Not Found: /invite/s3cr-et/", "Not Found: /invite/[removed]/"),
        ("/sign-in/s3cr-et/ /setup/s3cr-et/", "/sign-in/[removed]/ /setup/[removed]/"),
        ('"POST /hooks/s3cr-et HTTP/1.1" 401', '"POST /hooks/[removed] HTTP/1.1" 401'),
        ("/account/password/reset/key/4-c8x/", "/account/password/reset/key/[removed]/"),
        ("a task-list at 10:00 http://host:80/path", "a task-list at 10:00 http://host:80/path"),
    ],
)
def test_keys_and_one_time_links_are_masked(lines, said, written):
    logging.getLogger("any").warning("%s", said)
    structlog.get_logger("any").warning("fact", deep=[{"er": said}])

    first, second = lines()
    assert first["event"] == written
    assert second["deep"] == [{"er": written}]


@pytest.mark.requirement("RED-7")
def test_a_failing_page_is_logged_without_variables_keys_or_the_link(lines):
    with override_settings(ROOT_URLCONF=__name__):
        page = Client(raise_request_exception=False).get("/invite/the-token/", headers={"Authorization": "Bearer x"})

    told = lines()
    assert page.status_code == 500
    reference = next(line["reference"] for line in told if line["event"] == "page.failed")
    assert reference in page.content.decode()
    errors = next(line["errors"] for line in told if "errors" in line)
    assert errors[0]["kind"] == "builtins.RuntimeError"
    assert errors[0]["at"][-1].endswith(" fail")
    everything = json.dumps(told)
    for hidden in (KEY, "prompt text", "local variable", "the-token"):
        assert hidden not in everything
        assert hidden not in page.content.decode()


@pytest.mark.requirement("RED-6")
@pytest.mark.django_db
def test_a_failed_constraint_shows_no_row(lines):
    make_team(name="A name of somebody")
    with pytest.raises(IntegrityError) as refused, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_membership SET role = 'king'")
    assert "Failing row" in str(refused.value)  # the database does quote it

    logging.getLogger("any").error("failed", exc_info=refused.value)

    (line,) = lines()
    assert "membership_role_known" in line["errors"][0]["said"]
    assert "king" not in json.dumps(line)


@pytest.mark.requirement("RED-6")
def test_the_database_server_writes_no_values_into_its_log():
    terse = {"log_error_verbosity": "terse", "log_parameter_max_length_on_error": "0"}
    assert terse.items() <= SETTINGS.items()
    compose = (settings.BASE_DIR / "docker-compose.yml").read_text()
    assert [name for name, value in terse.items() if f"{name}={value}" not in compose] == []


@pytest.mark.requirement("RED-7")
def test_debug_is_off_and_no_setting_turns_it_on():
    source = (settings.BASE_DIR / "definable" / "settings.py").read_text()
    assert [line for line in source.splitlines() if "DEBUG" in line] == ["DEBUG = False"]


def test_configuring_again_changes_nothing(lines):
    before = logging.root.handlers[:]
    try:
        logs.configure({"level": "WARNING"})
        logs.configure({"level": "WARNING"})
        logging.getLogger("any").warning("once")
        assert [line["event"] for line in lines()] == ["once"]
    finally:
        logging.root.handlers[:] = before
