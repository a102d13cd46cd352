"""/healthz and /readyz say what is so, quickly, and nothing about where things are."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from definable import health, heartbeat
from definable.health import NotReady, Readiness
from definable.launcher.valkey import Valkey


@pytest.fixture
def valkey(tmp_path, settings) -> Iterator[Valkey]:
    """A broker and stream store of one's own, to be ill-treated."""
    server = Valkey(tmp_path)
    server.start()
    settings.CELERY_BROKER_URL, settings.STREAM_URL = server.broker_url(), server.stream_url()
    yield server
    server.stop(seconds=0.1)


def well() -> str:
    return "answers"


def broken() -> str:
    raise ConnectionError("could not reach db.internal.example at 10.0.0.7, password hunter2")


def waiting() -> str:
    raise NotReady("3 to apply")


def readiness(**components: Callable[[], str]) -> Readiness:
    return Readiness(components, required=frozenset(components) - {"worker"}, limit=0.2, fresh=60)


def test_healthz_answers_without_a_database_or_a_session():
    response = Client().get("/healthz")  # this test may not use the database

    assert (response.status_code, response.content) == (200, b"alive\n")
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies


def test_healthz_is_read_only():
    assert Client().post("/healthz").status_code == 405


def test_probes_come_in_without_tls(settings):
    settings.SECURE_SSL_REDIRECT = True

    assert Client().get("/healthz").status_code == 200


def test_each_component_has_one_entry():
    report = readiness(database=well, migrations=waiting).report()

    assert report == {
        "database": {"ok": True, "detail": "answers"},
        "migrations": {"ok": False, "detail": "3 to apply"},
    }


def test_a_failure_names_no_host_and_no_secret():
    assert readiness(database=broken).report() == {"database": {"ok": False, "detail": "does not answer"}}


def test_a_slow_component_does_not_hold_up_the_answer():
    release = threading.Event()
    began = time.monotonic()

    report = readiness(database=lambda: str(release.wait(30)), streams=well).report()
    release.set()

    assert report["database"] == {"ok": False, "detail": "does not answer in time"}
    assert report["streams"]["ok"]
    assert time.monotonic() - began < 5


def test_what_pages_need_decides():
    state = readiness(database=well, worker=waiting)

    assert state.ready(state.report())
    assert not state.ready({"database": {"ok": False}, "worker": {"ok": True}})


def test_asking_often_makes_no_work():
    asked: list[int] = []
    state = readiness(database=lambda: asked.append(1) or "answers")
    for _ in range(10):
        state.report()

    assert asked == [1]


@pytest.mark.parametrize(("check", "status"), [(well, 200), (broken, 503)])
def test_readyz_has_the_status_of_its_report(monkeypatch, check, status):
    monkeypatch.setattr(health, "readiness", readiness(database=check))

    response = Client().get("/readyz")

    assert response.status_code == status
    assert response.json()["database"]["ok"] == (status == 200)


@pytest.mark.django_db(transaction=True)
def test_a_missing_migration_is_counted():
    assert health.migrations() == "all applied"
    row = MigrationRecorder.Migration.objects.filter(app="sessions").first()
    row.delete()

    with pytest.raises(NotReady, match="1 to apply"):
        health.migrations()

    row.save(force_insert=True)


@pytest.mark.django_db(transaction=True)
def test_the_database_is_really_asked():
    assert health.database() == "answers"


def test_broker_and_streams_are_really_asked(valkey):
    assert (health.broker(), health.streams()) == ("answers", "answers")
    valkey.stop()

    with pytest.raises(redis.ConnectionError):
        health.streams()
    with pytest.raises(Exception, match=re.escape(str(valkey.socket))):
        health.broker()


def test_a_broker_that_hangs_is_told_in_time(valkey):
    os.kill(valkey.process.pid, signal.SIGSTOP)
    began = time.monotonic()

    report = Readiness(
        {"broker": health.broker, "streams": health.streams}, required=frozenset({"broker"}), limit=0.5
    ).report()
    os.kill(valkey.process.pid, signal.SIGCONT)

    assert report == {name: {"ok": False, "detail": "does not answer in time"} for name in ("broker", "streams")}
    assert time.monotonic() - began < 5


def test_a_process_is_alive_as_long_as_its_sign_lasts(valkey, monkeypatch):
    with pytest.raises(NotReady, match="no sign of life"):
        health.process("worker")

    heartbeat.leave_sign(heartbeat.store(), "worker")

    assert health.process("worker") == "alive"
    assert 0 < heartbeat.store().ttl(heartbeat.sign("worker")) <= heartbeat.LIFE


def test_a_container_looks_for_the_sign_of_its_own_host(valkey):
    heartbeat.leave_sign(heartbeat.store(), "worker")

    assert not heartbeat.lives(heartbeat.store(), "worker", "another-host")


def test_keys_that_cannot_be_read_are_told_without_their_path(settings, tmp_path):
    assert health.vault() == "keys can be read"
    settings.VAULT_CONTENT_KEY = ""
    settings.VAULT_CONTENT_KEY_FILE = str(tmp_path / "gone")

    with pytest.raises(NotReady, match=r"^keys cannot be read$"):
        health.vault()


def test_static_files_are_looked_for(settings, tmp_path):
    settings.STATIC_ROOT = tmp_path
    with pytest.raises(NotReady, match="not collected"):
        health.static()

    (tmp_path / "staticfiles.json").touch()

    assert health.static() == "collected"
