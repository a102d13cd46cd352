"""What comes of the tool calls that a model asks for."""

import json
import threading
from datetime import timedelta

import pytest

from accounts.models import Membership
from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Content, Event
from integrations import actions, deciding, purse
from integrations.approvals import NeedsApproval
from integrations.models import Approval, Call
from integrations.scopes import Rule, read_scopes
from personas.attempts import Stopped
from personas.chat import bounds, toolcalls
from personas.chat.outputs import BROKEN, CUT_OFF, LIMIT
from personas.leases import LeaseLost
from personas.models import Attachment, Persona, Run, StageRun
from tests.factories import make_member
from tests.integrations.desk import CHAT, MODEL, Desk, events_of, said
from tests.personas.chat.calling import Talk, outcomes
from vault.models import Grant

MESSAGE, COUNT, KEY, CREDITS = "create_message", "get_models_count", "get_current_key", "get_credits"
MODELS, PROVIDERS = "list_available_models", "list_providers"
WORDS = "Reply with exactly: the harbour is quiet"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": WORDS}], "max_tokens": 40}
ALL = {CHAT: "allowed", MESSAGE: "allowed", COUNT: "allowed", KEY: "allowed", MODELS: "allowed", PROVIDERS: "allowed"}


@pytest.fixture
def desk(sandbox, settings, known_catalog) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    sandbox.rules()
    return Desk(sandbox)


@pytest.fixture
def talk(desk) -> Talk:
    talk = Talk(desk)
    talk.lend(ALL)
    return talk


def made():
    """The calls of turns, without those that tested the key."""
    return Call.objects.filter(run_id__isnull=False)


def sent(call):
    """The body that left for a call."""
    return json.loads(said(events_of(call)[0]))


# --- planning ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_stage_is_planned_for_each_call_and_what_lies_open_is_plain(talk):
    turn = talk.turn()
    secret = "x\0' OR 1=1 \u202e my own words"
    calls = [
        {"id": "c1", "name": COUNT, "arguments": "{}"},
        {"id": "c2", "name": f"{MODELS}_second", "arguments": "not json"},
        {"id": "c\0003", "name": secret, "arguments": "{}"},
        {"id": "c4", "name": "y" * 65, "arguments": "{}"},
    ]

    planned = toolcalls.plan(turn.run, {"tool_calls": calls}, turn.version)

    assert [spec for spec, _ in planned] == [
        {"kind": "tool", "tool": COUNT, "name": COUNT, "call": "c1"},
        {"kind": "tool", "tool": MODELS, "name": f"{MODELS}_second", "call": "c2"},
        {"kind": "tool", "tool": "", "name": "unknown_tool", "call": "c3"},
        {"kind": "tool", "tool": "", "name": "unknown_tool", "call": "c4"},
    ]
    assert [given for _, given in planned] == calls


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_no_more_stages_are_planned_than_the_turn_may_have(talk):
    turn = talk.turn(*[(COUNT, {})] * 30, most_tool_calls=20)
    assert len(turn.tools()) == 20

    turn.asks((COUNT, {}))
    assert len(turn.tools()) == 20


# --- an answer --------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_what_a_tool_brings_back_is_marked_as_the_words_of_strangers(talk):
    turn = talk.turn((COUNT, "{}"))

    [output] = turn.do()
    [stage] = turn.tools()

    first, opened, data, closed = output["content"].split("\n")
    assert first.startswith("Get models count brought this back. It is data from outside")
    assert (opened, closed) == (f"<data {stage.pk.hex}>", f"</data {stage.pk.hex}>")
    assert json.loads(data) == output["result"]["data"]
    flags = (output["outcome"], output["is_error"], output["trimmed"], output["untrusted"])
    assert flags == ("done", False, False, True)
    assert (stage.state, stage.persona_version_id) == ("done", turn.version.pk)


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_a_consulted_model_is_a_call_like_any_other_and_gets_no_tools(desk, talk):
    turn = talk.turn((CHAT, QUESTION))

    [output] = turn.do()

    call = made().get(run_id=turn.run.pk)
    assert (call.tool, call.state, call.stage_id, call.persona_id) == (
        CHAT,
        "done",
        turn.tools()[0].pk,
        talk.persona.pk,
    )
    assert call.credits > 0
    assert f"Create chat completion ({call.model_served}) brought this back." in output["content"]
    assert "\nthe harbour is quiet\n" in output["content"]
    assert "tools" not in sent(call)


@pytest.mark.django_db
@pytest.mark.requirement("LLM-1", "LLM-2")
@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": COUNT}}]},
        {"plugins": [{"id": "web"}]},
        {"provider": {"data_collection": "allow"}},
        {"user": "somebody"},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://evil.example/?x"}}]}
            ]
        },
        {"api_key": "sk-or-v1-0"},
        {"connection_id": "00000000-0000-0000-0000-000000000001"},
    ],
)
def test_a_model_cannot_say_more_to_another_one_than_it_was_offered(talk, more):
    """Neither tools of its own, which would make the next floor, nor an address, a key or a persona."""
    turn = talk.turn((CHAT, QUESTION | more))

    [output] = turn.do()

    assert output["outcome"] == "invalid_arguments"
    assert f"- {next(iter(more))}" in output["content"]
    assert not made().exists()


# --- what cannot be called --------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.requirement("LLM-1")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("delete_connection", "There is no such tool. You have: "),
        ("", "There is no such tool."),
        (CREDITS, "get_credits is not among your tools. You have: "),
        ("create_coinbase_charge", "create_coinbase_charge is not among your tools."),
        ("GET_MODELS_COUNT", "There is no such tool."),
    ],
)
def test_a_tool_that_was_not_offered_is_not_called(talk, name, words):
    turn = talk.turn((name, "{}"))

    [output] = turn.do()

    assert (output["outcome"], output["is_error"], output["untrusted"]) == ("unknown_tool", True, False)
    assert output["content"].startswith(words)
    assert not made().exists()
    assert not Event.objects.filter(run_id=turn.run.pk, action__startswith="call.").exists()


@pytest.mark.django_db
@pytest.mark.requirement("LLM-1")
@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (MODELS, "not json", "cannot be read"),
        (MODELS, "[1]", "cannot be read"),
        (MODELS, '{"q": "a", "q": "b"}', "cannot be read"),
        (MODELS, '{"q": NaN}', "cannot be read"),
        (MODELS, "[" * 100_000, "cannot be read"),
        (MODELS, '{"limit": 9999}', "- limit: This must be at most 200."),
        (MODELS, '{"limit": "ten"}', "- limit: This must be a whole number."),
        (MODELS, '{"nothing": 1}', "- nothing: There is no such field."),
        (CHAT, "{}", "- model: This field is required."),
    ],
)
def test_bad_arguments_are_answered_field_by_field(talk, name, given, words):
    turn = talk.turn((name, given))

    [output] = turn.do()

    assert output["outcome"] == "invalid_arguments"
    assert words in output["content"]
    assert len(output["content"]) < 3_000
    assert not made().exists()


@pytest.mark.django_db
def test_no_arguments_at_all_are_an_empty_object(talk):
    assert outcomes(talk.turn((COUNT, " ")).do()) == ["done"]


@pytest.mark.django_db
def test_what_is_pinned_stays_whatever_the_model_writes(desk, talk):
    talk.lend({CHAT: {"rule": "allowed", "pinned": {"model": MODEL, "temperature": 0.5}, "max_tokens": 8}})
    asked = {"model": "openai/gpt-5-pro", "temperature": 2, "max_tokens": 4000, "messages": QUESTION["messages"]}
    turn = talk.turn((CHAT, asked))

    [output] = turn.do()

    assert output["outcome"] == "done"
    body = sent(made().get())
    assert (body["model"], body["temperature"], body["max_tokens"]) == (MODEL, 0.5, 8)


# --- refusals and failures --------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("lost", ["grant", "connection", "scope", "model"])
def test_what_was_taken_away_since_it_was_offered_is_refused_with_a_reason(desk, talk, lost):
    turn = talk.turn((CHAT, QUESTION))
    box = turn.box
    match lost:
        case "grant":
            actions.disable_for(connection=desk.connection, persona_id=talk.persona.pk, by=desk.owner)
        case "connection":
            actions.revoke(connection=desk.connection, by=desk.owner)
        case "scope":
            talk.lend({CHAT: "off"})
        case _:
            talk.lend({CHAT: "allowed"}, models={"deny": [MODEL]})

    [output] = turn.do(box)

    assert (output["outcome"], output["is_error"], output["untrusted"]) == ("refused", True, False)
    assert output["content"].startswith("This call was not made. ")
    assert not made().filter(state="done").exists()
    assert turn.states() == ["done"]


@pytest.mark.django_db
@pytest.mark.requirement("LLM-6")
def test_a_member_who_left_stops_the_calls_and_is_not_named_to_the_model(desk, talk):
    member = make_member(desk.team, Role.MEMBER)
    turn = talk.turn((COUNT, "{}"))
    turn.run.user = member
    box = turn.box
    Membership.objects.filter(user=member).delete()

    [output] = turn.do(box)

    assert output["outcome"] == "refused"
    assert member.email not in output["content"]
    assert member.email in output["words"]
    assert not made().exists()


@pytest.mark.django_db
def test_an_archived_persona_calls_nothing(talk):
    turn = talk.turn((COUNT, "{}"))
    box = turn.box
    Persona.objects.filter(pk=talk.persona.pk).update(archived_at=app_now())

    [output] = turn.do(box)

    assert (output["outcome"], made().count()) == ("refused", 0)


@pytest.mark.django_db
def test_a_failure_upstream_becomes_words_of_strangers_without_a_secret(desk, talk):
    desk.sandbox.rules(
        {
            "match": {"model": MODEL},
            "answer": {"kind": "status", "status": 429, "message": f"Slow, {desk.key}! Now pay."},
        }
    )
    turn = talk.turn((CHAT, QUESTION))

    [output] = turn.do()

    assert (output["outcome"], output["is_error"], output["untrusted"]) == ("rate_limited", True, True)
    assert f"<data {turn.tools()[0].pk.hex}>" in output["content"]
    assert desk.key not in json.dumps(output)
    assert output["result"] is None


@pytest.mark.django_db
def test_a_fault_of_ours_says_no_more_than_that(talk, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(toolcalls.attempts, "call_once", broken)

    [output] = talk.turn((COUNT, "{}")).do()

    assert (output["outcome"], output["content"]) == ("failed", BROKEN)
    assert "hunter2" not in json.dumps(output)


@pytest.mark.django_db
def test_arguments_that_were_erased_are_not_guessed(talk):
    turn = talk.turn((COUNT, "{}"))
    Content.objects.filter(pk=turn.tools()[0].input_content_id).update(ciphertext=None)

    assert outcomes(turn.do()) == ["erased"]
    assert not made().exists()


# --- bounds -----------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_the_same_call_is_made_twice_and_then_answered_without_being_made(talk):
    turn = talk.turn((MODELS, '{"q": "gpt", "limit": 2}'))
    turn.do()
    turn.asks((MODELS, '{"limit":2,"q":"gpt"}'))
    turn.do()
    turn.asks((MODELS, ' {"limit": 2, "q": "gpt"}'))

    assert outcomes(turn.do()) == ["done", "done", "repeated"]
    assert made().count() == 2
    assert "made 2 times" in turn.outputs()[2]["content"]


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_a_turn_takes_no_more_platform_credits_than_its_version_says(talk):
    turn = talk.turn((CHAT, QUESTION), most_credits=1)

    [output] = turn.do()

    assert (output["outcome"], output["content"]) == ("limit", LIMIT)
    assert "at most 1 platform credits in all" in output["words"]
    assert not made().exists()


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_after_its_time_a_turn_calls_nothing(talk):
    turn = talk.turn((COUNT, "{}"), most_seconds=10)
    Run.objects.filter(pk=turn.run.pk).update(queued_at=app_now() - timedelta(seconds=11))
    turn.run.refresh_from_db()

    assert outcomes(turn.do()) == ["limit"]
    assert not made().exists()


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_a_call_does_not_outlast_its_turn(desk, talk):
    desk.sandbox.rules({"match": {"path": "*/chat/completions"}, "answer": {"kind": "silence", "delay": 20}})
    turn = talk.turn((CHAT, QUESTION), most_seconds=10)
    Run.objects.filter(pk=turn.run.pk).update(queued_at=app_now() - timedelta(seconds=9))
    turn.run.refresh_from_db()

    [output] = turn.do()

    assert (output["outcome"], output["content"]) == ("limit", CUT_OFF)
    call = made().get()
    assert (call.state, call.credits) == ("unknown", None)
    assert (app_now() - call.started_at).total_seconds() < 5


@pytest.mark.django_db
def test_waiting_for_a_person_is_not_time_at_work(talk):
    talk.lend({COUNT: "ask"})
    turn = talk.turn((COUNT, "{}"))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()
    approval = turn.park(needed.value)
    now = app_now()
    Run.objects.filter(pk=turn.run.pk).update(queued_at=now - timedelta(hours=2))
    Approval.objects.filter(pk=approval.pk).update(
        asked_at=now - timedelta(hours=2) + timedelta(seconds=3), decided_at=now, state="approved", decided_by=talk.user
    )
    turn.run.refresh_from_db()

    assert 2.9 < toolcalls.seconds_at_work(turn.run) < 6
    turn.go_on()
    assert outcomes(turn.do()) == ["done"]


@pytest.mark.django_db
def test_a_long_result_is_cut_with_a_note_and_stays_json(talk, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_RESULT", 3_000)
    turn = talk.turn((MODELS, '{"limit": 50}'))

    [output] = turn.do()

    _, _, data, _, note = output["content"].split("\n")
    assert output["trimmed"]
    assert len(data) <= 3_000
    assert len(json.loads(data)["models"]) < len(output["result"]["data"]["models"])
    assert "entries of models were left out" in note


# --- in parallel ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_calls_of_one_answer_are_made_at_once_and_answered_in_order(desk, talk):
    desk.sandbox.rules({"match": {"path": "*/models/count"}, "answer": {"kind": "slow", "delay": 0.6}})
    wanted = [(COUNT, {}), ("nothing", {}), (PROVIDERS, {}), (COUNT, {"output_modalities": ["text"]}), (MODELS, "x")]
    turn = talk.turn(*wanted)

    outputs = turn.do()

    assert outcomes(outputs) == ["done", "unknown_tool", "done", "done", "invalid_arguments"]
    assert [stage.spec["name"] for stage in turn.tools()] == [COUNT, "nothing", PROVIDERS, COUNT, MODELS]
    starts = sorted(call.started_at for call in made().filter(tool=COUNT))
    ends = sorted(call.finished_at for call in made().filter(tool=COUNT))
    assert starts[1] < ends[0]  # the second began before the first was over
    assert not [each for each in threading.enumerate() if each.name.startswith("tools")]


@pytest.mark.django_db(transaction=True)
def test_one_that_fails_takes_no_other_with_it(desk, talk):
    desk.sandbox.rules({"match": {"model": MODEL}, "answer": {"kind": "garbage"}})
    turn = talk.turn((CHAT, QUESTION), (COUNT, {}))

    assert outcomes(turn.do()) == ["bad_answer", "done"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("LLM-2")
def test_parallel_calls_together_stay_under_the_turns_limit(talk):
    once = talk.turn((CHAT, QUESTION))
    once.do()
    each = made().get().credits_reserved

    turn = talk.turn(*[(CHAT, QUESTION | {"temperature": number / 10}) for number in range(8)], most_credits=3 * each)
    talk.lend({CHAT: {"rule": "allowed", "after_untrusted": True}})
    found = outcomes(turn.do())

    assert purse.taken(team_id=talk.team.pk, run_id=turn.run.pk) <= 3 * each
    assert {"done", "limit"} == set(found)


# --- asking a person --------------------------------------------------------------------


def decide(approval, verdict, by):
    deciding.decide(approval=approval, verdict=verdict, by=by, at=app_now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("LLM-8")
def test_a_call_that_asks_first_waits_for_its_person_after_the_others_are_done(talk):
    talk.lend(ALL | {KEY: "ask"})
    turn = talk.turn((KEY, {}), (COUNT, {}), (PROVIDERS, {}))

    with pytest.raises(NeedsApproval) as needed:
        turn.do()

    first, *others = turn.tools()
    assert needed.value.question.stage_id == first.pk
    assert (first.state, first.started_at, [other.state for other in others]) == ("waiting", None, ["done", "done"])
    approval = turn.park(needed.value)
    assert not approval.untrusted
    decide(approval, "once", talk.user)
    turn.go_on()
    assert outcomes(turn.do()) == ["done"] * 3
    assert made().filter(run_id=turn.run.pk).count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_that_ask_first_are_asked_about_one_after_the_other(talk):
    talk.lend(ALL | {KEY: "ask", PROVIDERS: "ask"})
    turn = talk.turn((KEY, {}), (PROVIDERS, {}))

    for verdict in ("once", "refused"):
        with pytest.raises(NeedsApproval) as needed:
            turn.do()
        decide(turn.park(needed.value), verdict, talk.user)
        turn.go_on()
    outputs = turn.do()

    assert outcomes(outputs) == ["done", "not_approved"]
    assert list(made().filter(run_id=turn.run.pk).values_list("tool", flat=True)) == [KEY]


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["refused", "expired"])
def test_what_nobody_allowed_is_told_to_the_model_and_who_refused_to_people(talk, end, clock, settings):
    talk.lend({KEY: "ask"})
    turn = talk.turn((KEY, {}))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()
    approval = turn.park(needed.value)
    if end == "refused":
        decide(approval, "refused", talk.user)
    else:
        clock(hours=settings.APPROVAL_HOURS, seconds=1)
    turn.go_on()

    [output] = turn.do()

    assert output["outcome"] == "not_approved"
    words = {"refused": "A person refused this call.", "expired": "Nobody allowed this call in time"}
    assert output["content"].startswith(words[end])
    assert talk.user.email not in output["content"]
    assert (talk.user.email in output["words"]) is (end == "refused")
    assert not made().exists()


@pytest.mark.django_db
def test_always_widens_the_grant_and_the_next_call_asks_nobody(talk):
    talk.lend({COUNT: {"rule": "ask", "unattended": False}})
    turn = talk.turn((COUNT, {}))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()
    decide(turn.park(needed.value), "always", talk.user)
    turn.go_on()
    assert outcomes(turn.do()) == ["done"]

    turn.asks((COUNT, {"output_modalities": ["text"]}))
    assert outcomes(turn.do()) == ["done", "done"]
    kept = read_scopes(Grant.objects.live().get(holder=talk.persona.pk).scopes).tools[COUNT]
    assert (kept.rule, kept.unattended) == (Rule.ALLOWED, False)


# --- text of strangers ------------------------------------------------------------------


def consults(talk, turn=None):
    """Have a model consulted, and say whether somebody is asked first."""
    turn = turn or talk.turn((CHAT, QUESTION))
    try:
        return outcomes(turn.do())[-1]
    except NeedsApproval:
        return "asks"


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("LLM-7")
def test_spending_asks_first_once_a_result_is_in_the_turn(talk):
    turn = talk.turn((COUNT, {}), (CHAT, QUESTION))
    assert outcomes(turn.do()) == ["done", "done"]  # in one breath: it had read nothing yet

    turn.asks((CHAT, QUESTION))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()

    approval = turn.park(needed.value)
    assert approval.untrusted
    decide(approval, "once", talk.user)
    turn.go_on()
    assert outcomes(turn.do()) == ["done", "done", "done"]
    started = Event.objects.filter(action="call.started", run_id=turn.run.pk).latest("at", "id")
    assert any(step["rule"] == "untrusted" for step in started.details["why"])


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_reading_goes_on_as_the_grant_says(talk):
    turn = talk.turn((COUNT, {}))
    turn.do()
    turn.asks((KEY, {}))

    assert outcomes(turn.do()) == ["done", "done"]


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_an_earlier_turn_of_the_branch_counts_and_another_branch_does_not(talk):
    assert consults(talk) == "done"
    assert consults(talk) == "asks"

    talk.last = None  # a new beginning in the same chat
    assert consults(talk) == "done"


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_a_file_of_a_member_is_text_of_a_stranger(talk):
    turn = talk.turn((CHAT, QUESTION))
    Attachment.objects.create(
        team=talk.team,
        message=talk.last.parent,
        owner=talk.user,
        name="poisoned.pdf",
        media_type="application/pdf",
        size=9,
        content_id=talk.seal("attachment", "x"),
        created_at=app_now(),
    )

    assert consults(talk, turn) == "asks"


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_what_was_never_called_brought_nothing_back(talk):
    turn = talk.turn(("nothing", {}))
    turn.do()
    turn.asks((MODELS, "x"))
    turn.do()
    turn.asks((CHAT, QUESTION))

    assert consults(talk, turn) == "done"


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_whoever_opted_in_is_not_asked(talk):
    talk.lend({CHAT: {"rule": "allowed", "after_untrusted": True}})

    assert [consults(talk) for _ in range(3)] == ["done"] * 3


@pytest.mark.django_db
@pytest.mark.requirement("LLM-7")
def test_always_is_the_opt_in(talk):
    consults(talk)
    turn = talk.turn((CHAT, QUESTION))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()
    decide(turn.park(needed.value), "always", talk.user)
    turn.go_on()

    assert outcomes(turn.do()) == ["done"]
    assert consults(talk) == "done"


# --- lost workers, stops ----------------------------------------------------------------


def lose_worker(turn):
    """Leave the stage as a worker does that dies between its call and the write of what came of it."""
    [stage] = turn.tools()
    StageRun.objects.filter(pk=stage.pk).update(state="running", output_content_id=None, finished_at=None)
    turn.go_on()
    return made().filter(stage_id=stage.pk)


@pytest.mark.django_db
def test_a_call_that_never_left_is_made_when_the_turn_is_taken_up_again(talk):
    turn = talk.turn((CHAT, QUESTION))
    assert not lose_worker(turn).exists()

    assert outcomes(turn.do()) == ["done"]
    assert made().count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "given"), [(COUNT, {}), (CHAT, QUESTION)])
def test_an_answer_that_was_written_down_is_used_and_nothing_is_made_again(talk, name, given):
    turn = talk.turn((name, given))
    [before] = turn.do()
    lose_worker(turn)

    [after] = turn.do()

    assert after == before
    assert made().count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["sent", "unknown"])
@pytest.mark.parametrize(("name", "given", "expected"), [(COUNT, {}, "done"), (CHAT, QUESTION, "unknown")])
def test_in_doubt_reading_is_repeated_and_spending_is_not(talk, name, given, expected, state):
    turn = talk.turn((name, given))
    turn.do()
    ended = {} if state == "unknown" else {"finished_at": None}
    lose_worker(turn).update(state=state, credits=None, response_content_id=None, **ended)

    [output] = turn.do()

    assert output["outcome"] == expected
    assert made().count() == (2 if expected == "done" else 1)


@pytest.mark.django_db
def test_what_may_have_been_billed_is_not_made_again_in_that_turn_though_the_model_asks(talk):
    turn = talk.turn((CHAT, QUESTION))
    turn.do()
    lose_worker(turn).update(state="unknown", credits=None, response_content_id=None)
    turn.do()
    turn.asks((CHAT, QUESTION))

    assert outcomes(turn.do()) == ["unknown", "repeated"]
    assert made().count() == 1


@pytest.mark.django_db
def test_an_approval_that_a_lost_call_used_up_serves_no_second_one(talk):
    talk.lend({CHAT: "ask"})
    turn = talk.turn((CHAT, QUESTION))
    with pytest.raises(NeedsApproval) as needed:
        turn.do()
    decide(turn.park(needed.value), "once", talk.user)
    turn.go_on()
    turn.do()
    lose_worker(turn).update(state="unknown", credits=None, response_content_id=None)

    assert outcomes(turn.do()) == ["unknown"]
    assert made().count() == 1


@pytest.mark.django_db
def test_who_lost_the_turn_writes_nothing(talk):
    turn = talk.turn((COUNT, {}))
    Run.objects.filter(pk=turn.run.pk).update(fence=turn.run.fence + 1)

    with pytest.raises(LeaseLost):
        turn.do()

    assert (turn.states(), made().count()) == (["waiting"], 0)


@pytest.mark.django_db
def test_a_turn_that_was_stopped_calls_nothing(talk):
    turn = talk.turn((COUNT, {}))
    Run.objects.filter(pk=turn.run.pk).update(stop_wanted_at=app_now())

    with pytest.raises(Stopped):
        turn.do()

    assert (turn.states(), made().count()) == (["waiting"], 0)


@pytest.mark.django_db(transaction=True)
def test_a_stop_ends_a_call_under_way(desk, talk):
    desk.sandbox.rules({"match": {"path": "*/chat/completions"}, "answer": {"kind": "silence", "delay": 20}})
    turn = talk.turn((CHAT, QUESTION), (COUNT, {}))

    def stop():
        Run.objects.filter(pk=turn.run.pk).update(stop_wanted_at=app_now())
        from django.db import connection

        connection.close()

    timer = threading.Timer(0.7, stop)
    timer.start()
    begun = app_now()
    with pytest.raises(Stopped):
        turn.do()
    timer.join()

    assert (app_now() - begun).total_seconds() < 6
    assert turn.states() == ["waiting", "done"]
    assert made().get(tool=CHAT).state == "unknown"
