"""Fallback as it happens: which models are asked, what the ledger says of it, and what it costs."""

import threading
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection as database
from django.urls import reverse

from accounts.models import CreditAccount
from audit.clock import app_now
from integrations import catalog, catalog_reading
from integrations.actions import enable_for, set_scopes
from integrations.models import Call
from integrations.scopes import read_scopes
from personas import actions, attempts
from personas.execution import work
from personas.models import Attempt, Cooldown, Firing, Run
from tests.integrations.caps import make_cap
from tests.integrations.desk import Desk
from tests.personas.builders import make_flow, make_persona, make_schedule
from vault.models import Grant

pytestmark = pytest.mark.django_db

FIRST, SECOND, THIRD = "openai/gpt-5.4", "anthropic/claude-sonnet-4.6", "openai/gpt-5.4-mini"
CHAT = "/chat/completions"


def fault(model: str, status: int = 429, **more) -> dict:
    return {"match": {"model": model, "path": CHAT}, "answer": {"kind": "status", "status": status} | more}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def persona(desk):
    persona = make_persona(desk.team, chain=[FIRST, SECOND])
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=["create_chat_completion"], by=desk.owner)
    return persona


def start(persona, *, rehearsal=False, **stage) -> Run:
    prompt = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Reply with exactly: tide"}
    flow = make_flow(persona.team, [prompt | stage], name=f"Flow {uuid4().hex[:6]}")
    return actions.run_flow(flow=flow, by=persona.created_by, idempotency_key=uuid4().hex, rehearsal=rehearsal)


def turn(run: Run) -> str:
    work(run_id=run.pk, owner=uuid4().hex)
    run.refresh_from_db()
    return run.state


def ledger(run: Run) -> list[tuple[str, str]]:
    return list(Attempt.objects.filter(run=run).order_by("number").values_list("model", "outcome"))


def asked(desk: Desk) -> list[str]:
    """What the service itself saw of model calls with this team's key."""
    ours = {str(call.pk): call.model for call in Call.objects.filter(team=desk.team)}
    lines = [line for line in desk.sandbox.journal() if line["request_id"] in ours and line["path"].endswith(CHAT)]
    return [ours[line["request_id"]] for line in lines]


# --- what is asked, and what is written down --------------------------------------------


def test_a_fallback_is_in_the_ledger_with_its_reason_and_its_cost(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, retry_after=20))
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (SECOND, "done")]
    first, second = Attempt.objects.filter(run=run)
    assert first.next_step == f"Next: {SECOND}."
    assert first.cost_usd is None
    assert second.cost_usd == Call.objects.get(pk=second.call_id).cost_usd > 0
    assert [call.attempt for call in Call.objects.filter(run_id=run.pk).order_by("attempt")] == [1, 2]


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "invalid_request"), (401, "key_refused"), (402, "out_of_balance")]
)
def test_what_no_model_could_do_better_stops_with_what_to_do(sandbox, desk, persona, status, outcome):
    sandbox.rules(fault(FIRST, status, metadata={"provider_name": ""}))  # not the provider's own trouble
    run = start(persona)
    assert turn(run) == "failed"
    assert ledger(run) == [(FIRST, outcome)]
    assert run.failure


def test_refused_content_is_not_carried_to_another_model(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, 403, metadata={"reasons": ["violence"], "flagged_input": "x"}))
    run = start(persona)
    assert turn(run) == "failed"
    assert ledger(run) == [(FIRST, "refused_by_policy")]


def test_an_overloaded_model_is_asked_twice_and_then_replaced(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, 503))
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "overloaded")] * 2 + [(SECOND, "done")]


@pytest.mark.requirement("RATE-4")
def test_a_short_retry_after_is_waited_for_and_shown(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, retry_after=1, times=1))
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (FIRST, "done")]
    assert 1000 <= Attempt.objects.get(run=run, number=2).waited_ms <= 1500


def test_a_model_that_one_run_found_busy_is_passed_over_by_the_next(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, retry_after=60))
    assert turn(start(persona)) == "succeeded"
    second = start(persona)
    assert turn(second) == "succeeded"
    assert ledger(second) == [(FIRST, "cooling_down"), (SECOND, "done")]
    assert asked(desk).count(FIRST) == 1


def test_a_model_at_peace_again_is_asked_first_again(sandbox, desk, persona, clock):
    sandbox.rules(fault(FIRST, retry_after=60))
    turn(start(persona))
    sandbox.rules()
    clock(seconds=61)
    run = start(persona)
    turn(run)
    assert ledger(run) == [(FIRST, "done")]
    assert Cooldown.objects.get(model=FIRST).until is None


# --- bad days ---------------------------------------------------------------------------


@pytest.mark.requirement("RATE-4")
def test_a_storm_of_rate_limits_never_spins(sandbox, desk, persona, clock):
    sandbox.rules(fault("*"))
    runs = [start(persona) for _ in range(3)]
    for minute in range(6):
        for run in runs:
            work(run_id=run.pk, owner="test")
        clock(seconds=30 * (minute + 1))
    # Three runs over three minutes: the rests of 5, 10, 20 … seconds are shared by all of them.
    assert len(asked(desk)) <= 12
    assert len(asked(desk)) == Call.objects.filter(team=desk.team, tool="create_chat_completion").count()


def test_when_all_are_busy_the_run_waits_and_says_for_whom(sandbox, desk, persona, client):
    sandbox.rules(fault(FIRST, retry_after=90), fault(SECOND, retry_after=40))
    run = start(persona)
    assert turn(run) == "parked"
    wait = (run.parked_until - Attempt.objects.filter(run=run).last().at).total_seconds()
    assert 39 <= wait <= 46
    client.force_login(desk.owner)
    page = client.get(reverse("run_detail", args=[desk.team.slug, run.pk])).content.decode()
    assert f"{SECOND} may be asked again in 40 s, before all others." in page


def test_a_chain_in_which_every_model_is_gone_fails_with_what_to_do_and_costs_nothing(sandbox, desk, persona):
    gone = {"error_type": "not_found"}
    sandbox.rules(fault(FIRST, 404, metadata=gone), fault(SECOND, 404, metadata=gone))
    run = start(persona)
    assert turn(run) == "failed"
    assert ledger(run) == [(FIRST, "model_unavailable"), (SECOND, "model_unavailable")]
    assert "Choose another model." in run.failure
    assert CreditAccount.objects.get(team=desk.team).reserved == 0


def test_at_most_three_fallbacks_are_asked_for_one_answer(sandbox, desk, persona):
    chain = [FIRST, SECOND, THIRD, "google/gemini-2.5-flash", "mistralai/mistral-medium-3.1"]
    sandbox.rules(*(fault(model, 404) for model in chain))
    run = start(persona, chain=chain)
    assert turn(run) == "failed"
    assert [model for model, _ in ledger(run)] == chain[:4]
    assert "3 fallbacks are the most" in run.failure


@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_stopped_while_it_waits_ends_before_the_next_try(sandbox, desk, persona, monkeypatch):
    sandbox.rules(fault(FIRST, retry_after=2))
    run = start(persona)

    def stop(seconds: float) -> None:
        actions.stop_run(run=run, by=desk.owner)

    monkeypatch.setattr(attempts.time, "sleep", stop)
    assert turn(run) == "stopped"
    assert run.stages.get().state == "skipped"
    assert asked(desk) == [FIRST]


def test_a_worker_killed_between_two_attempts_loses_no_line_and_pays_nothing_twice(
    sandbox, desk, persona, monkeypatch, clock
):
    sandbox.rules(fault(FIRST, retry_after=60))
    run = start(persona)
    once = iter([KeyboardInterrupt])

    def die(*_args, **_more):
        if next(once, None):
            raise KeyboardInterrupt
        return real(*_args, **_more)

    real = attempts.decide
    begun = iter([False, True])
    monkeypatch.setattr(attempts, "decide", lambda *given: die(*given) if next(begun, False) else real(*given))
    with pytest.raises(KeyboardInterrupt):
        turn(run)
    assert ledger(run) == []

    clock(seconds=31)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (FIRST, "cooling_down"), (SECOND, "done")]
    assert asked(desk) == [FIRST, SECOND]
    paid = sum(call.cost_usd or Decimal(0) for call in Call.objects.filter(run_id=run.pk))
    assert paid == sum(row.cost_usd or Decimal(0) for row in Attempt.objects.filter(run=run))


def test_a_stage_stops_after_thirty_calls_however_patient_its_run_is(sandbox, desk, persona, monkeypatch, clock):
    monkeypatch.setattr("personas.ledger.MOST_OF_STAGE", 3)
    sandbox.rules(fault("*", retry_after=5))
    run = start(persona)
    for seconds in (10, 20, 30, 40):
        turn(run)
        clock(seconds=seconds)
    assert run.state == "failed"
    assert "most for one answer" in run.failure
    assert len(asked(desk)) == 3


# --- rehearsal --------------------------------------------------------------------------


def test_a_rehearsal_does_not_ask_the_first_model_and_leaves_no_rest(desk, persona, client):
    run = start(persona, rehearsal=True)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (SECOND, "done")]
    assert [row.rehearsed for row in Attempt.objects.filter(run=run)] == [True, False]
    assert asked(desk) == [SECOND]
    assert not Cooldown.objects.exists()
    client.force_login(desk.owner)
    page = client.get(reverse("run_detail", args=[desk.team.slug, run.pk])).content.decode()
    assert "This is a rehearsal." in page


def test_a_rehearsal_without_a_fallback_shows_that_there_is_none(desk, persona):
    run = start(persona, rehearsal=True, chain=[FIRST])
    assert turn(run) == "failed"
    assert "There is no other model to ask." in run.failure
    assert asked(desk) == []


def test_a_flow_is_rehearsed_from_its_page(client, desk, persona):
    flow = start(persona).flow
    client.force_login(desk.owner)
    page = client.get(reverse("flow_detail", args=[desk.team.slug, flow.slug])).content.decode()
    assert "Rehearse fallback" in page
    client.post(reverse("flow_run", args=[desk.team.slug, flow.slug]), {"once": "again", "rehearse": "yes"})
    assert Run.objects.get(idempotency_key="again").rehearsal


def test_a_tool_is_rehearsed_from_the_console_with_the_personas_other_models(client, desk, persona):
    client.force_login(desk.owner)
    url = reverse("console_tool", args=[desk.team.slug, persona.slug, "openrouter", "create_chat_completion"])
    client.post(url, {"model": FIRST, "prompt": "Reply with exactly: tide", "once": "c", "rehearse": "yes"})
    run = Run.objects.get(idempotency_key="c")
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (SECOND, "done")]


@pytest.mark.django_db(transaction=True)
def test_workers_that_fail_together_note_every_failure_once(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, retry_after=30))
    runs = [start(persona) for _ in range(3)]

    def go(run: Run) -> None:
        work(run_id=run.pk, owner=uuid4().hex)
        database.close()

    threads = [threading.Thread(target=go, args=[run]) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {Run.objects.get(pk=run.pk).state for run in runs} == {"succeeded"}
    assert Cooldown.objects.get(model=FIRST).failures == 1


# --- rules ------------------------------------------------------------------------------


@pytest.fixture
def listed(desk):
    catalog.forget()
    catalog_reading.refresh(integration="openrouter")
    yield catalog.current()
    catalog.forget()


def test_a_model_that_cannot_serve_the_request_is_passed_over_without_a_call(desk, persona, listed):
    small = next(facts.id for facts in listed.models.values() if facts.max_output and facts.max_output < 60_000)
    large = next(facts.id for facts in listed.models.values() if facts.max_output and facts.max_output > 70_000)
    actions.save_persona(
        persona=persona, name=persona.name, purpose="", by=desk.owner, chain=[small, large], max_tokens=65_000
    )
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(small, "does_not_fit"), (large, "done")]
    assert "longest answer" in Attempt.objects.get(run=run, number=1).next_step
    assert asked(desk) == [large]


def test_a_stage_with_models_of_its_own_and_no_rule_asks_them_in_their_order(desk, persona, listed):
    for own in ({"chain": [SECOND, FIRST]}, {"model": SECOND, "fallback_model": FIRST}):
        run = start(persona, **own)
        assert turn(run) == "succeeded"
        assert ledger(run) == [(SECOND, "done")]


def test_the_cheapest_model_of_a_pattern_is_asked_first_and_the_ledger_says_among_how_many(desk, persona, listed):
    run = start(persona, chain=["anthropic/*"], routing="cheapest")
    assert turn(run) == "succeeded"
    row = Attempt.objects.get(run=run)
    assert row.model.startswith("anthropic/")
    assert row.next_step.startswith("The cheapest of ")


def test_a_persona_that_chooses_makes_one_more_call_which_is_in_the_ledger_and_billed(desk, persona, listed):
    run = start(persona, chain=[FIRST, SECOND], routing="choose")
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "done"), (FIRST, "done")]
    choice, answer = Attempt.objects.filter(run=run)
    assert choice.next_step == "It chose none of those offered; the first is asked."
    assert choice.cost_usd > 0
    assert answer.call_id != choice.call_id


def test_a_choice_that_fails_is_written_down_and_the_first_model_is_asked(sandbox, desk, persona, listed):
    sandbox.rules(fault(FIRST, 404, times=1))
    run = start(persona, chain=[FIRST, SECOND], routing="choose")
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "model_unavailable"), (FIRST, "done")]


def test_nobody_is_asked_to_choose_in_a_rehearsal(desk, persona, listed):
    run = start(persona, chain=[FIRST, SECOND], routing="choose", rehearsal=True)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "rate_limited"), (FIRST, "rate_limited"), (SECOND, "done")]
    assert asked(desk) == [SECOND]


def test_a_model_that_is_left_in_peace_neither_chooses_nor_is_offered(sandbox, desk, persona, listed):
    sandbox.rules(fault(FIRST, retry_after=60))
    turn(start(persona))
    before = len(asked(desk))
    run = start(persona, chain=[FIRST, SECOND, THIRD], routing="choose")
    assert turn(run) == "succeeded"
    assert asked(desk)[before:] == [SECOND, SECOND]
    assert turn(start(persona, chain=[FIRST, SECOND], routing="choose")) == "succeeded"
    assert asked(desk)[before:] == [SECOND, SECOND, SECOND]  # with one left there is nothing to choose


# --- caps -------------------------------------------------------------------------------


@pytest.mark.requirement("BUD-3")
def test_under_a_cap_a_model_without_a_price_does_not_keep_the_first_from_answering(desk, persona, listed):
    run = start(persona, chain=["openrouter/auto", FIRST, "maker/unheard-of", "perplexity/sonar-deep-research"])
    make_cap(desk.team, "5")
    assert turn(run) == "succeeded"
    assert ledger(run) == [("openrouter/auto", "does_not_fit"), (FIRST, "done")]
    assert "Its price is not known" in Attempt.objects.get(run=run, number=1).next_step
    assert Call.objects.get(run_id=run.pk).most_usd is not None


@pytest.mark.requirement("BUD-3")
def test_where_no_model_has_a_price_a_cap_ends_the_stage_with_the_reason(desk, persona, listed):
    run = start(persona, chain=["openrouter/auto", "maker/unheard-of"])
    make_cap(desk.team, "5")
    assert turn(run) == "failed"
    assert "Its price is not known, and a cap in dollars counts." in run.failure
    assert asked(desk) == []


def test_a_model_that_the_grant_forbids_is_passed_over_with_its_reason(desk, persona):
    grant = Grant.objects.get(holder=persona.pk)
    Grant.objects.filter(pk=grant.pk).update(scopes=grant.scopes | {"models": {"allow": [], "deny": [FIRST]}})
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(FIRST, "does_not_fit"), (SECOND, "done")]


def test_a_team_that_makes_too_many_calls_waits_instead_of_failing(desk, persona, settings, client):
    settings.CALLS_A_MINUTE = dict.fromkeys(settings.CALLS_A_MINUTE, 1)
    first, second = start(persona), start(persona)
    # The key's own test may have counted a moment before, so that already the first must wait.
    waiting = [run for run in (first, second) if turn(run) == "parked"]
    assert waiting
    client.force_login(desk.owner)
    page = client.get(reverse("run_detail", args=[desk.team.slug, waiting[0].pk])).content.decode()
    assert "calls a minute. Come back in" in page


# --- what a grant fixes, and what a flow lends ------------------------------------------


def lend(desk, holder, **scopes):
    given = read_scopes({"tools": {"create_chat_completion": "allowed"}} | scopes)
    set_scopes(connection=desk.connection, holder=holder, scopes=given, by=desk.owner, name="Writer")


def test_where_the_grant_pins_a_model_the_ledger_names_the_one_that_was_asked(desk, persona):
    lend(desk, persona.pk, tools={"create_chat_completion": {"rule": "allowed", "pinned": {"model": THIRD}}})
    run = start(persona)
    assert turn(run) == "succeeded"
    assert ledger(run) == [(THIRD, "done")]
    assert asked(desk) == [THIRD]


def test_a_router_behind_a_model_does_not_keep_a_grant_from_the_model(desk, persona):
    lend(desk, persona.pk, models={"deny": ["google/*"]})
    run = start(persona, chain=[FIRST, "openrouter/auto"])
    assert turn(run) == "succeeded"
    assert asked(desk) == [FIRST]


def test_a_flow_lends_its_connection_to_a_stage_whose_persona_has_none(desk):
    persona = make_persona(desk.team, name="Borrower", chain=[FIRST])
    run = start(persona)
    lend(desk, run.flow_id)
    assert turn(run) == "succeeded"


def test_a_stage_whose_model_is_no_text_fails_with_its_reason(desk, persona):
    lend(desk, persona.pk)
    stage = {"kind": "tool", "name": "one", "persona": str(persona.pk), "tool": "create_chat_completion"}
    flow = make_flow(desk.team, [stage | {"arguments": {"model": ["x"], "messages": []}}])
    run = actions.run_flow(flow=flow, by=desk.owner, idempotency_key=uuid4().hex)
    assert turn(run) == "failed"
    assert "model" in run.failure


@pytest.mark.parametrize("ended", ["end", "run", "unattended"])
def test_a_connection_whose_grant_lets_nothing_pass_now_is_not_chosen_before_one_that_does(desk, persona, ended):
    rule = {"rule": "allowed", "unattended": ended != "unattended"}
    over = {
        "end": {"ends_at": (app_now() - timedelta(minutes=1)).isoformat()},
        "run": {"one_run": True, "only_run": str(uuid4())},
        "unattended": {},
    }[ended]
    lend(desk, persona.pk, tools={"create_chat_completion": rule}, **over)
    other = desk.connect(desk.sandbox.key(), label="Newer")
    scopes = read_scopes({"tools": {"create_chat_completion": "allowed"}})
    set_scopes(connection=other, holder=persona.pk, scopes=scopes, by=desk.owner, name="Writer")
    run = start(persona)
    if ended == "unattended":
        now = app_now()
        run.firing = Firing.objects.create(
            team=desk.team, schedule=make_schedule(run.flow), nominal_at=now, fired_at=now, outcome="started"
        )
        run.save()
    assert turn(run) == "succeeded", run.failure
    assert Call.objects.get(run_id=run.pk).connection_id == other.pk


def test_where_no_grant_lets_it_pass_the_oldest_says_why(desk, persona):
    lend(desk, persona.pk, ends_at=(app_now() - timedelta(minutes=1)).isoformat())
    run = start(persona)
    assert turn(run) == "failed"
    assert "The grant ended" in run.failure
