"""A real worker at a queue that somebody else can write to."""

import base64
import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection

from personas import actions
from personas.execution import work
from personas.models import Run
from tests import broker
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = 10_000
QUEUE = "hostile"  # its own, so that no other test's messages come between
UNICODE = "\u202e\x00\ud800"


def envelope(body: bytes, *, task: object = "personas.tasks.work", kind: str = "application/json", **headers) -> bytes:
    """A message as Celery's broker keeps it."""
    tag = str(uuid4())
    properties = {
        "correlation_id": tag,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": tag,
    }
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": kind,
        "headers": {"lang": "py", "task": task, "id": tag, "retries": 0} | headers,
        "properties": properties,
    }
    return json.dumps(message).encode()


def call(kwargs: object, *, task: object = "personas.tasks.work", args: object = (), **headers) -> bytes:
    return envelope(json.dumps([args, kwargs, {"callbacks": None, "chain": None}]).encode(), task=task, **headers)


class Bomb:
    """What unpickling would run."""

    def __reduce__(self):
        return os.system, ("touch /tmp/definable-unpickled",)


ODD = [None, 1, 1.5, True, "", "x", "../../etc/passwd", UNICODE, "9" * 3000, [], {}, ["x"], {"a": 1}, "null", "0" * 32]
HOSTILE: list[Callable[[random.Random], bytes]] = [
    lambda chance: envelope(pickle.dumps(Bomb()), kind="application/x-python-serialize"),
    lambda chance: envelope(b"!!python/object/apply:os.system [id]", kind="application/x-yaml"),
    lambda chance: envelope(chance.randbytes(200), kind=chance.choice(["text/plain", "application/data", "x/y", ""])),
    lambda chance: envelope(chance.randbytes(60)),
    lambda chance: envelope(json.dumps(chance.choice(ODD)).encode()),
    lambda chance: call(
        {"run_id": str(uuid4())}, task=chance.choice(["os.system", "celery.chord", "", UNICODE, "x" * 999])
    ),
    lambda chance: call({"run_id": chance.choice(ODD)}),
    lambda chance: call({chance.choice(["id", "run", "", UNICODE]): "x"}),
    lambda chance: call({}, args=[chance.choice(ODD)]),
    lambda chance: call({"run_id": str(uuid4()), "more": chance.choice(ODD)}),
    lambda chance: call(
        {"connection_id": chance.choice([*ODD, str(uuid4())])}, task="integrations.tasks.test_connection"
    ),
    lambda chance: call({"run_id": str(uuid4())}, eta=chance.choice(["never", "2000-01-01T00:00:00"])),
    lambda chance: call({"run_id": str(uuid4())}, task=chance.choice(ODD)),
    lambda chance: call({}, task="personas.tasks.work", timelimit=chance.choice(ODD), expires=chance.choice(ODD)),
    lambda chance: call({"run_id": "x" * 20_000}),
    lambda chance: envelope(b"[" * 4000),
]


@pytest.fixture
def worker() -> Iterator[subprocess.Popen]:
    """A worker at the queue, on this test's database."""
    database = connection.settings_dict
    url = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "definable", "worker", "-P", "threads", "-c", "2"]
    command += ["-Q", QUEUE, "-n", f"{QUEUE}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = os.environ | {"DATABASE_URL": url, "DEFINABLE_ROLE": "worker", "LOG_LEVEL": "CRITICAL"}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield running
    running.terminate()
    running.wait(20)


def eventually(true: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.2)
    return true()


@pytest.mark.requirement("CRASH-8")
@pytest.mark.django_db(transaction=True)
def test_ten_thousand_hostile_messages_change_nothing_and_stop_nobody(worker):
    flow = make_flow(make_team())
    over, due = (actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=uuid4().hex) for _ in range(2))
    work(run_id=over.pk, owner="test")
    over.refresh_from_db()
    chance = random.Random(8)
    messages = [chance.choice(HOSTILE)(chance) for _ in range(MESSAGES)] + [call({"run_id": str(over.pk)})] * 10

    broker.put(QUEUE, [*messages, call({"run_id": str(due.pk)})])

    assert eventually(lambda: Run.objects.get(pk=due.pk).state == Run.State.SUCCEEDED, seconds=120)
    assert worker.poll() is None
    assert Run.objects.count() == 2
    again = Run.objects.get(pk=over.pk)
    assert (again.attempt, again.changes, again.finished_at) == (over.attempt, over.changes, over.finished_at)
    assert not Path("/tmp/definable-unpickled").exists()
