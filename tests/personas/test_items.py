"""Lists: each item on its own, what is done kept, and the whole as one stage."""

import json

import pytest

from audit.clock import app_now
from integrations.models import Call
from personas import actions, execution, items, performing
from personas.models import Run, StageRun
from personas.standstill import StageFailed
from tests.personas.builders import make_persona
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
    told,
    when,
)
from vault import actions as vault

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    yield make_desk(sandbox, settings)
    sandbox.rules()


@pytest.fixture
def writer(desk):
    return make_writer(desk)


class Killed(BaseException):
    """The worker's process is gone."""


def dies_at(monkeypatch, item: int) -> None:
    """Let the worker die when it begins this item."""
    do = performing.perform

    def until_then(run, row, *given):
        if row.item == item:
            raise Killed
        return do(run, row, *given)

    monkeypatch.setattr(execution, "perform", until_then)


# --- lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('[{"x": 1}, 2, null]', ['{"x": 1}', "2", "null"]),
        (" one\n\n two \n", ["one", "two"]),
        ('{"a": 1}', ['{"a": 1}']),
        ('["a", ', ['["a",']),
        ("[]", []),
        ("", []),
        ("[" * 100_000, ["[" * 100_000]),
    ],
)
def test_a_list_is_read_from_json_or_from_lines(text, expected):
    assert items.read_list(text, 10) == expected


def test_a_list_that_is_too_long_is_refused_before_anything_is_asked(desk, writer):
    run = start(desk.team, [each(writer, "a\nb\nc", most=2)])
    assert go(run) == "failed"
    assert run.failure.startswith("The list has 3 items, and this stage takes at most 2.")
    assert (items_of(run), Call.objects.filter(run_id=run.pk).count()) == ([], 0)


# --- going through one ------------------------------------------------------------------


def test_each_item_is_done_and_the_whole_is_a_list_in_order(desk, writer):
    stages = [
        combine("list", '["tide", "ebb", "{{ input.flow }}"]'),
        each(writer, "{{ stage.list.output }}", say="{{ item }} of {{ stage.list.output }}"),
        combine("end", "{{ stage.all.output }}"),
    ]
    stages[1]["do"]["template"] = "Reply with exactly: {{ item }}!"
    run = start(desk.team, stages)
    assert go(run) == "succeeded"
    expected = ["tide!", "ebb!", f"{run.title}!"]
    assert json.loads(told(run)["all"]) == json.loads(told(run)["end"]) == expected
    rows = items_of(run)
    assert [(row.item, row.state, row.tries, row.kind) for row in rows] == [(n, "done", 1, "prompt") for n in (1, 2, 3)]
    assert all(row.persona_version == writer.version for row in rows)
    calls = Call.objects.filter(run_id=run.pk)
    assert {call.stage_id for call in calls} == {row.pk for row in rows}
    assert all(call.cost_usd > 0 for call in calls)


def test_an_empty_list_gives_an_empty_list(desk, writer):
    run = start(desk.team, [each(writer, " \n ")])
    assert go(run) == "succeeded"
    assert told(run) == {"all": "[]"}


@pytest.mark.django_db(transaction=True)
def test_several_items_are_done_at_once_and_stay_in_order(desk, writer):
    words = [f"word{n}" for n in range(6)]
    run = start(desk.team, [each(writer, "\n".join(words), at_once=3)])
    assert go(run) == "succeeded"
    assert json.loads(told(run)["all"]) == words
    assert Call.objects.filter(run_id=run.pk).count() == 6


def test_a_tool_can_be_used_for_each_item(desk):
    looker = make_writer(desk, tools=("list_model_endpoints",))
    do = {"kind": "tool", "persona": str(looker.pk), "tool": "list_model_endpoints"}
    stage = each(looker, f"{MODEL}") | {"do": do | {"arguments": {"model": "{{ item }}"}}}
    run = start(desk.team, [stage])
    assert go(run) == "succeeded", run.failure
    assert "endpoints" in json.loads(told(run)["all"])[0]


# --- what is done stays done ------------------------------------------------------------


@pytest.mark.requirement("CRASH-1")
def test_a_worker_killed_in_the_middle_leaves_only_unfinished_items_to_do(desk, writer, monkeypatch):
    run = start(desk.team, [combine("list", "a\nb\nc"), each(writer, "{{ stage.list.output }}")])
    dies_at(monkeypatch, 2)
    with pytest.raises(Killed):
        go(run, "killed")
    monkeypatch.undo()
    assert [row.state for row in items_of(run)] == ["done", "running", "waiting"]
    Run.objects.filter(pk=run.pk).update(lease_until=run.queued_at)

    assert go(run, "next") == "succeeded"

    assert json.loads(told(run)["all"]) == ["a", "b", "c"]
    assert Call.objects.filter(run_id=run.pk).count() == 3


def test_one_worker_after_another_may_die_while_items_get_done(desk, writer, monkeypatch):
    run = start(desk.team, [each(writer, "a\nb\nc\nd\ne")])
    for item in range(2, 6):
        dies_at(monkeypatch, item)
        with pytest.raises(Killed):
            go(run, f"worker {item}")
        monkeypatch.undo()
        Run.objects.filter(pk=run.pk).update(lease_until=run.queued_at)
    assert go(run, "last") == "succeeded"


def test_a_run_stopped_in_the_middle_of_a_list_ends_and_begins_no_further_item(desk, writer, monkeypatch):
    run = start(desk.team, [each(writer, "a\nb\nc"), combine("end", "x")])
    do = performing.perform

    def stopping(run, row, *given):
        if row.item == 2:
            actions.stop_run(run=run, by=desk.owner)
        return do(run, row, *given)

    monkeypatch.setattr(execution, "perform", stopping)
    assert go(run) == "stopped"
    assert [row.state for row in items_of(run)] == ["done", "done", "skipped"]
    assert told(run) == {"all": "skipped", "end": "skipped"}


# --- when an item fails or must wait ----------------------------------------------------


def rule(word: str, **answer) -> dict:
    return {"match": {"model": MODEL, "path": CHAT, "nth": int(word)}, "answer": {"kind": "status"} | answer}


def test_an_item_that_fails_fails_the_stage_and_says_which(sandbox, desk, writer):
    sandbox.rules(rule("2", status=400))
    run = start(desk.team, [each(writer, "a\nb\nc"), combine("sorry", "without", **when("all", "failed"))])
    assert go(run) == "succeeded"
    assert run.stages.get(name="all", item=0).failure.startswith("Item 2: ")
    assert [row.state for row in items_of(run)] == ["done", "failed", "skipped"]
    assert told(run) == {"all": "failed", "sorry": "without"}


def test_another_try_of_a_list_does_only_what_is_left_of_it(sandbox, desk, writer, clock):
    sandbox.rules(rule("2", status=503), rule("3", status=503), rule("4", status=503))
    run = start(desk.team, [each(writer, "a\nb\nc", retries=2)])
    assert go(run) == "parked"
    assert [row.state for row in items_of(run)] == ["done", "failed", "waiting"]
    sandbox.rules()
    clock(minutes=10)
    assert go(run) == "succeeded"
    assert [row.tries for row in items_of(run)] == [1, 2, 1]
    assert json.loads(told(run)["all"]) == ["a", "b", "c"]


def test_a_list_waits_for_a_rate_limit_with_what_it_has(sandbox, desk, writer, clock):
    sandbox.rules(rule("2", status=429, retry_after=120))
    run = start(desk.team, [each(writer, "a\nb\nc")])
    assert go(run) == "parked"
    assert [row.state for row in items_of(run)] == ["done", "waiting", "waiting"]
    clock(seconds=170)
    assert go(run) == "succeeded"
    assert run.stages.get(item=0).tries == 1


def test_all_items_together_keep_to_what_the_stage_may_cost(desk, writer, known_catalog):
    alone = start(desk.team, [prompt(writer, say="a")])
    go(alone)
    one = Call.objects.get(run_id=alone.pk)
    assert one.cost_usd < one.most_usd
    run = start(desk.team, [each(writer, "a\n" * 20, most_usd=f"{one.most_usd + one.cost_usd * 2:f}")])
    assert go(run) == "failed"
    assert "This stage may cost at most" in run.failure
    assert 1 <= Call.objects.filter(run_id=run.pk).count() <= 4


def test_items_that_were_erased_are_not_guessed(desk, writer, monkeypatch):
    run = start(desk.team, [each(writer, "a\nb")])
    dies_at(monkeypatch, 2)
    with pytest.raises(Killed):
        go(run, "killed")
    monkeypatch.undo()
    StageRun.objects.filter(run=run, item=2).update(input_content_id=run.pk)
    Run.objects.filter(pk=run.pk).update(lease_until=run.queued_at)
    assert go(run, "next") == "failed"
    assert "erased" in run.failure


def test_the_gravest_fault_of_several_items_decides():
    heals, fails = StageFailed("later", again=True), StageFailed("never")
    with pytest.raises(StageFailed, match="never"):
        items._raise_gravest([items.Parked(3), heals, fails])
    with pytest.raises(items.Parked):
        items._raise_gravest([heals, items.Parked(3)])
    with pytest.raises(items.LeaseLost):
        items._raise_gravest([fails, items.LeaseLost(), items.Stopped()])
    with pytest.raises(KeyError):
        items._raise_gravest([fails, KeyError("a fault of ours")])
    assert items._raise_gravest([]) is None


def test_a_fault_of_the_service_is_not_of_the_run(sandbox, desk, writer):
    sandbox.rules(fault(400, times=1))
    run = start(desk.team, [each(writer, "a\nb")])
    assert go(run) == "failed"
    assert [row.state for row in items_of(run)] == ["failed", "skipped"]


# --- asking first -----------------------------------------------------------------------


@pytest.fixture
def broker(desk):
    """A persona that must ask before it asks a model."""
    persona = make_persona(desk.team, name="Broker", chain=[MODEL], max_tokens=60)
    scopes = {"tools": {"create_chat_completion": {"rule": "ask"}}}
    place = {"team": desk.team, "holder": persona.pk, "connection": desk.connection.pk}
    vault.grant(**place, scopes=scopes, by=desk.owner, at=app_now())
    return persona


@pytest.mark.parametrize(
    ("verdict", "state", "rows"),
    [("once", "succeeded", ["done", "done"]), ("refused", "failed", ["done", "failed"])],
)
def test_each_item_that_must_ask_asks_for_itself(desk, broker, verdict, state, rows):
    run = start(desk.team, [each(broker, "a\nb")])
    for item, decision in ((1, "once"), (2, verdict)):
        assert go(run) == "parked"
        assert run.approval.stage_id == items_of(run)[item - 1].pk
        actions.decide_approval(approval=run.approval, verdict=decision, by=desk.owner)
    assert go(run) == state, run.failure
    assert [row.state for row in items_of(run)] == rows
    assert Call.objects.filter(run_id=run.pk).count() == rows.count("done")
    assert run.stages.get(item=0).tries == 1


@pytest.mark.django_db(transaction=True)
def test_items_that_ask_at_the_same_time_ask_one_after_another(desk, broker):
    run = start(desk.team, [each(broker, "a\nb\nc", at_once=3)])
    for _ in range(3):
        assert go(run) == "parked"
        actions.decide_approval(approval=Run.objects.get(pk=run.pk).approval, verdict="once", by=desk.owner)
    assert go(run) == "succeeded", run.failure
    assert json.loads(told(run)["all"]) == ["a", "b", "c"]
    assert Call.objects.filter(run_id=run.pk).count() == 3
