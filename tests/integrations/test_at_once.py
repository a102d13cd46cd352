"""How many calls of one connection may be on their way at once."""

import threading

import pytest
from django.db import connection as database
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from integrations.at_once import TooManyAtOnce, set_calls_at_once
from integrations.models import Call
from tests.factories import make_member
from tests.integrations.desk import Desk
from tests.personas.flowing import go, make_desk, make_writer, prompt, start

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    return make_desk(sandbox, settings)


def limit(desk: Desk, most: int | None) -> None:
    set_calls_at_once(connection=desk.connection, most=most, by=desk.owner)
    desk.connection.refresh_from_db()


@pytest.mark.django_db(transaction=True)
def test_of_many_calls_at_one_moment_no_more_than_the_limit_leave(desk):
    limit(desk, 2)
    refused, barrier = [], threading.Barrier(6)
    before = len(desk.sandbox.journal())
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "dear", "factor": 1, "delay": 1}})

    def call() -> None:
        barrier.wait()
        try:
            desk.call()
        except TooManyAtOnce as problem:
            refused.append(str(problem))
        database.close()

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["At most 2 calls of Main may be on their way at once. Come back in a moment."] * 4
    assert len(desk.sandbox.journal()) == before + 2
    assert Event.objects.filter(action="call.refused", outcome="too_many_calls").count() == 4
    desk.call()


def test_a_run_waits_for_its_turn_and_takes_nothing_meanwhile(desk):
    limit(desk, 1)
    other = desk.call().call
    Call.objects.filter(pk=other.pk).update(state="sent", finished_at=None)  # as one that is on its way
    run = start(desk.team, [prompt(make_writer(desk), say="ebb")])
    assert go(run) == "parked"
    assert not Call.objects.filter(run_id=run.pk).exists()

    limit(desk, None)
    type(run).objects.filter(pk=run.pk).update(parked_until=run.queued_at)
    assert go(run) == "succeeded"


def test_a_member_with_the_right_sets_it_and_it_is_in_the_log(client, desk):
    page = reverse("connection_at_once", args=[desk.team.slug, desk.connection.pk])
    client.force_login(make_member(desk.team, Role.MEMBER))
    assert client.post(page, {"most": "3"}).status_code in (403, 404)
    client.force_login(desk.owner)
    for wrong in ("0", "1001", "many"):
        client.post(page, {"most": wrong})
    desk.connection.refresh_from_db()
    assert desk.connection.calls_at_once is None

    client.post(page, {"most": "3"})
    shown = client.get(reverse("connection_detail", args=[desk.team.slug, desk.connection.pk])).content.decode()
    assert "At most 3 calls of this connection on their way" in shown
    assert Event.objects.get(action="integrations.connection.limited").details == {"from": None, "to": 3}
