"""What is left when a worker dies in the middle of a call, and what the broker is told."""

import json
import subprocess
import sys
import threading

import pytest
from celery import current_app
from django.db import connection
from kombu import Message, Queue

from accounts.models import CreditEntry, Plan
from integrations import actions, tasks
from integrations.bookkeeping import close_in_doubt
from integrations.models import Call
from integrations.queue import settle_later
from tests.integrations.caps import counters, make_cap, wrong_counters
from tests.integrations.catalog_fixture import read_catalog
from tests.integrations.desk import MODEL, QUESTION, Desk, events_of, picodollars

pytestmark = pytest.mark.django_db(transaction=True)

# A worker of its own on the test's database, which ends at once where it is told to.
WORKER = """
import importlib, json, os, sys
asked = json.loads(sys.argv[1])
import django
from django.conf import settings
django.setup()
settings.DATABASES["default"]["NAME"] = asked["database"]
settings.INTEGRATION_URLS = {"openrouter": asked["url"]}
from accounts.models import Team, User
from audit.actions import Actor
from integrations.calls import Caller, call_tool
from integrations.models import Connection
module, name, when = asked["dies"]
if module:
    place = importlib.import_module(module)
    step = getattr(place, name)
    def die(*given, **more):
        if when == "after":
            step(*given, **more)
        os._exit(9)
    setattr(place, name, die)
user = User.objects.get(pk=asked["user"])
call_tool(
    team=Team.objects.select_related("plan").get(pk=asked["team"]),
    connection=Connection.objects.get(pk=asked["connection"]),
    tool="create_chat_completion",
    arguments=asked["arguments"],
    caller=Caller(user=user, actor=Actor.user(user)),
    on_text=None if module else lambda text: os._exit(9),
)
"""


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox)
    sandbox.rules()


AT_THE_FIRST_WORDS = ("", "", "")


def die_in_the_middle(desk: Desk) -> Call:
    die(desk, AT_THE_FIRST_WORDS)
    return desk.last_call()


def die(desk: Desk, where: tuple[str, str, str]) -> None:
    """Make a call in a process that ends before or after a step: module, function, when."""
    asked = {
        "database": connection.settings_dict["NAME"],
        "url": desk.sandbox.url,
        "user": str(desk.owner.pk),
        "team": str(desk.team.pk),
        "connection": str(desk.connection.pk),
        "arguments": QUESTION,
        "dies": where,
    }
    ended = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(asked)], timeout=60, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 9, ended.stderr


@pytest.mark.requirement("AUD-6", "BUD-5")
def test_a_killed_worker_leaves_a_started_call_that_becomes_unknown_and_is_settled(desk):
    call = die_in_the_middle(desk)

    assert (call.state, call.credits, desk.account.reserved) == ("sent", None, call.credits_reserved)
    assert [event.action for event in events_of(call)] == ["call.started"]
    assert call.generation_id == desk.lines_of(call)[0]["generation_id"] != ""

    close_in_doubt(call=call)
    call.refresh_from_db()
    assert (call.state, call.outcome, desk.account.reserved) == ("unknown", "unknown", call.credits_reserved)

    threading.Event().wait(0.4)
    tasks.settle(call_id=str(call.pk))
    call.refresh_from_db()
    assert (call.state, desk.account.reserved) == ("failed", 0)
    assert [event.action for event in events_of(call)] == ["call.started", "call.finished", "call.settled"]


@pytest.mark.requirement("AUD-6")
def test_many_sweepers_at_once_end_a_lost_call_once(desk):
    call = die_in_the_middle(desk)
    threads = [threading.Thread(target=_give_up, args=(Call.objects.get(pk=call.pk),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [event.action for event in events_of(call)] == ["call.started", "call.finished"]


def _give_up(call: Call) -> None:
    try:
        close_in_doubt(call=call)
    finally:
        connection.close()


DEATHS = {
    "before anything is held": ("integrations.bookkeeping", "_reserve", "before"),
    "before what is held is committed": ("integrations.bookkeeping", "_insert", "after"),
    "before the request leaves": ("integrations.calls", "_send", "before"),
    "at the first words": AT_THE_FIRST_WORDS,
    "before the end is written": ("integrations.calls", "_close", "before"),
    "before the end is committed": ("integrations.bookkeeping", "_pay", "after"),
    "after the end is committed": ("integrations.calls", "_close", "after"),
}


@pytest.mark.requirement("BUD-5", "BUD-8")
@pytest.mark.parametrize("point", DEATHS)
def test_wherever_a_worker_is_killed_dollars_are_not_held_settled_or_held_until_the_cost_is_known(desk, point):
    read_catalog(desk.sandbox, wanted=[MODEL])
    make_cap(desk.team, "1")
    before = set(Call.objects.values_list("pk", flat=True))

    die(desk, DEATHS[point])

    call = Call.objects.exclude(pk__in=before).first()
    if call is None:  # nothing was sent, and nothing is held
        assert point.startswith(("before anything", "before what is held"))
        assert (counters(desk.team), desk.account.reserved, wrong_counters()) == ([], 0, [])
        return
    lines = desk.lines_of(call)
    if call.state == "sent":
        assert counters(desk.team) == [(call.most_usd, 0)]
        close_in_doubt(call=call)
        assert counters(desk.team) == [(call.most_usd, 0)]
        assert desk.account.reserved == call.credits_reserved
        threading.Event().wait(0.4)
        tasks.settle(call_id=str(call.pk))
    call.refresh_from_db()
    if lines:
        assert counters(desk.team) == [(0, call.cost_usd)]
        assert call.cost_usd == picodollars(lines[0]["cost"]) > 0
    else:  # nobody can tell that it was not sent, so it is held until a person says so
        assert (point, call.state) == ("before the request leaves", "unknown")
        assert counters(desk.team) == [(call.most_usd, 0)]
    assert wrong_counters() == []


def test_many_calls_at_once_share_a_plan_to_the_last_platform_credit(sandbox, desk):
    plan = Plan.objects.create(key="small", name="Small", monthly_credits=1 + 5 * 3)  # one is for the test of the key
    desk = Desk(sandbox, plan=plan)
    outcomes = []

    def ask() -> None:
        try:
            desk.call()
            outcomes.append("done")
        except Exception as refusal:  # noqa: BLE001 - what it was is what is asserted
            outcomes.append(type(refusal).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["OutOfCredits"] * 3 + ["done"] * 5
    assert (desk.account.reserved, desk.account.spent) == (0, desk.account.granted)
    entries = CreditEntry.objects.filter(team=desk.team).exclude(kind="grant")
    assert entries.filter(kind="reserve").count() == entries.filter(kind="settle").count() == 6


@pytest.mark.requirement("RED-5")
def test_messages_to_workers_carry_ids_and_nothing_else(desk):
    waiting_messages()

    fresh = actions.connect(
        team=desk.team,
        integration=desk.connection.provider,
        label="Second",
        kind="api_key",
        posted=desk.sandbox.key(),
        by=desk.owner,
    )
    call = desk.call().call
    settle_later(call.pk)

    messages = waiting_messages()
    assert {message.headers["task"]: message.payload[:2] for message in messages} == {
        "integrations.tasks.test_connection": [[], {"connection_id": str(fresh.pk)}],
        "integrations.tasks.settle": [[], {"call_id": str(call.pk)}],
    }
    assert [message for message in messages if desk.owner.email in str(message.headers)] == []
    assert current_app.conf.result_backend is None


def waiting_messages() -> list[Message]:
    """Take every message that waits for a worker of calls."""
    with current_app.connection_for_read() as broker:
        queue = Queue("calls")(broker.channel())
        return list(iter(lambda: queue.get(no_ack=True), None))
