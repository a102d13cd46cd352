"""The page of a run with stages of all kinds: why one was skipped, how far a list came, what is tried again when."""

import pytest
from django.urls import reverse

from audit.models import Content
from personas import queries
from tests.personas.flowing import (
    CHAT,
    MODEL,
    combine,
    each,
    fault,
    go,
    items_of,
    make_desk,
    make_writer,
    prompt,
    start,
    when,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    yield make_desk(sandbox, settings)
    sandbox.rules()


@pytest.fixture
def page(client, desk):
    client.force_login(desk.owner)

    def page(run, stage: int, name: str = "run_detail") -> str:
        answer = client.get(reverse(name, args=[run.team.slug, run.pk]), {"stage": stage})
        assert answer.status_code == 200
        return answer.content.decode()

    return page


def test_each_kind_of_end_is_told(sandbox, desk, page, django_assert_max_num_queries):
    writer = make_writer(desk)
    nth = {"match": {"model": MODEL, "path": CHAT, "nth": 3}, "answer": {"kind": "status", "status": 400}}
    sandbox.rules(nth)
    stages = [
        each(writer, "<b>ebb</b>\nflood"),
        combine("check", "0.4"),
        combine("good", "x", **when("check", "above", "0.8")),
        prompt(writer),
        combine("sorry", "x", **when("ask", "failed")),
        prompt(writer, "last", **when("good", "done")),
    ]
    run = start(desk.team, stages)
    assert go(run) == "succeeded"

    with django_assert_max_num_queries(14):
        listed = page(run, 1)
    assert "2 of 2 items done" in listed
    assert "&lt;b&gt;ebb&lt;/b&gt;" in listed
    assert "<b>ebb</b>" not in listed
    assert "It is done only if stage check gives more than 0.8." in page(run, 3)
    runs = queries.run_page(team=desk.team).rows
    assert [len(listed.stages.all()) for listed in runs] == [6]  # without the items
    failed = page(run, 4)
    assert "notice-bad" in failed
    assert "3 of 6 stages done, 2 skipped" in failed
    assert 'value="6"' in failed
    Content.objects.filter(pk=items_of(run)[0].output_content_id).update(ciphertext=None)
    assert "Its output is empty, or was erased." in page(run, 1)


def test_a_list_on_its_way_and_a_stage_that_is_tried_again_are_told(sandbox, desk, page, clock):
    nth = {"match": {"model": MODEL, "path": CHAT, "nth": 2}, "answer": {"kind": "status", "status": 503}}
    sandbox.rules(nth, nth | {"match": nth["match"] | {"nth": 3}})
    writer = make_writer(desk)
    run = start(desk.team, [each(writer, "a\nb\nc", retries=2), combine("end", "x")])
    assert go(run) == "parked"
    waiting = page(run, 1, "run_progress")
    assert "1 of 3 items done" in waiting
    assert "Trying stage 1 again" in waiting
    assert "Item 2: " in waiting
    sandbox.rules()
    clock(minutes=10)
    assert go(run) == "succeeded"
    assert "b, 2 tries" in page(run, 1)


def test_a_stage_the_run_never_reached_says_so(sandbox, desk, page):
    sandbox.rules(fault(400))
    run = start(desk.team, [prompt(make_writer(desk)), combine("end", "x")])
    assert go(run) == "failed"
    assert "The run ended before it." in page(run, 2)
