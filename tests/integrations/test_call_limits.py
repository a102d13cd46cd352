"""Every call inside its limits: what a grant, the caps and the pace do to a call, and what the log says of it."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from accounts.models import CreditAccount
from audit.clock import app_now
from audit.models import Content, Event
from integrations import actions, catalog, catalog_reading, deciding, pricing
from integrations.approvals import NeedsApproval, NotApproved
from integrations.caps import CapReached, UnknownPrice
from integrations.errors import ModelUnavailable
from integrations.models import Approval, Call, Cap, CapCounter, CapEntry, Policy
from integrations.openrouter.client import OpenRouter
from integrations.pace import TooManyCalls
from integrations.policy import PolicyRefuses
from integrations.scopes import read_scopes
from integrations.standing import NotAllowed
from tests.integrations.desk import CHAT, MODEL, QUESTION, Desk
from tests.integrations.questions import asked
from vault.content import open_content

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    catalog.forget()
    yield Desk(sandbox)
    catalog.forget()


@pytest.fixture
def known(desk):
    catalog_reading.refresh(integration="openrouter", wanted=[MODEL], again_after=timedelta(0))
    catalog.forget()
    return catalog.current()


def lend(desk: Desk, holder: UUID | None = None, **scopes) -> UUID:
    """A persona (or a flow) with these scopes, everything else allowed."""
    holder = holder or uuid4()
    given = {"tools": {CHAT: {"rule": "allowed"}}} | scopes
    actions.set_scopes(
        connection=desk.connection, holder=holder, scopes=read_scopes(given), by=desk.owner, name="Writer"
    )
    return holder


def cap(desk: Desk, usd: str, **what) -> Cap:
    plain = {"kind": "team", "period": "day", "mode": "strict", "created_by": desk.owner, "created_at": timezone.now()}
    return Cap.objects.create(team=desk.team, limit_usd=Decimal(usd), **(plain | what))


def sent(call: Call) -> dict:
    return json.loads(open_content(content=Content.objects.get(pk=call.request_content_id)))


def refused(desk: Desk) -> Event:
    return Event.objects.filter(team_id=desk.team.pk, action="call.refused").latest("at")


# --- grants -----------------------------------------------------------------------------


def test_pinned_arguments_replace_what_was_given(desk):
    persona = lend(desk, tools={CHAT: {"rule": "allowed", "pinned": {"temperature": 0.25}}})
    done = desk.call(arguments=QUESTION | {"temperature": 1.5}, persona_id=persona, persona_name="Writer")
    assert sent(done.call)["temperature"] == 0.25


def test_a_cap_on_tokens_shortens_the_answer(desk):
    persona = lend(desk, tools={CHAT: {"rule": "allowed", "max_tokens": 17}})
    done = desk.call(persona_id=persona, persona_name="Writer")
    assert sent(done.call)["max_tokens"] == 17


def test_a_model_outside_the_grant_is_refused_with_the_path_of_rules(desk):
    persona = lend(desk, models={"allow": ["openai/*"]})
    with pytest.raises(NotAllowed, match="not among those allowed"):
        desk.call(persona_id=persona, persona_name="Writer")
    why = refused(desk).details["why"]
    assert [step["rule"] for step in why][:3] == ["role", "connection", "grant"]
    assert [step["rule"] for step in why if not step["holds"]] == ["models"]


def test_a_fallback_outside_the_grant_is_refused_before_anything_is_sent(desk):
    persona = lend(desk, models={"deny": ["openai/*"]})
    with pytest.raises(NotAllowed, match="is forbidden"):
        desk.call(chain=[MODEL, "openai/gpt-5.4-mini"], persona_id=persona, persona_name="Writer")


def test_the_started_event_says_why_it_was_allowed(desk):
    persona = lend(desk)
    call = desk.call(persona_id=persona, persona_name="Writer").call
    started = Event.objects.get(call_id=call.pk, action="call.started")
    assert {step["rule"] for step in started.details["why"]} >= {"role", "connection", "grant", "tool"}
    assert all(step["holds"] for step in started.details["why"])


def test_a_flow_lends_its_grant_to_a_persona_that_has_none(desk):
    flow = lend(desk)
    desk.call(persona_id=uuid4(), persona_name="Writer", flow_id=flow)


def test_a_personas_own_grant_counts_before_its_flows(desk):
    flow = lend(desk)
    persona = lend(desk, tools={})
    with pytest.raises(NotAllowed, match="is off for Writer"):
        desk.call(persona_id=persona, persona_name="Writer", flow_id=flow)


def test_a_grant_that_ended_allows_nothing(desk):
    ended = (app_now() - timedelta(seconds=1)).isoformat()
    persona = lend(desk, ends_at=ended)
    with pytest.raises(NotAllowed, match="The grant ended"):
        desk.call(persona_id=persona, persona_name="Writer")


def test_what_nobody_sits_before_needs_leave_of_its_own(desk):
    persona = lend(desk, tools={CHAT: {"rule": "allowed", "unattended": False}})
    desk.call(persona_id=persona, persona_name="Writer")
    with pytest.raises(NotAllowed, match="may not be used by a schedule"):
        desk.call(persona_id=persona, persona_name="Writer", unattended=True)


# --- dollars ----------------------------------------------------------------------------


def test_a_call_holds_its_worst_case_and_pays_what_it_cost(desk, known):
    made = cap(desk, "1")
    call = desk.call().call
    counter = CapCounter.objects.get(cap=made)
    assert (counter.reserved_usd, counter.spent_usd) == (0, call.cost_usd)
    held = CapEntry.objects.get(counter=counter, kind="reserve").usd
    assert held == call.most_usd >= call.cost_usd


@pytest.mark.requirement("BUD-4")
def test_the_dearest_model_of_the_chain_bounds_what_is_held(desk, known):
    dear = max(known.models.values(), key=lambda model: model.prices.tokens_out or 0).id
    alone = desk.call().call
    with_dear = desk.call(chain=[MODEL, dear]).call
    assert with_dear.most_usd > alone.most_usd


def test_an_answer_is_shortened_until_its_worst_case_fits(desk, known):
    whole = desk.call(arguments=QUESTION | {"max_completion_tokens": 4000}).call
    cap(desk, str(whole.most_usd / 2))
    shortened = desk.call(arguments=QUESTION | {"max_completion_tokens": 4000}).call
    assert 64 <= sent(shortened)["max_tokens"] < 4000
    assert shortened.most_usd <= whole.most_usd / 2


def test_under_a_cap_without_room_nothing_is_sent_and_nothing_is_held(desk, known):
    made = cap(desk, "0.000001")
    lines = len(desk.sandbox.journal())
    with pytest.raises(CapReached, match=r"the team.s cap of \$0\.000001 a day"):
        desk.call()
    assert len(desk.sandbox.journal()) == lines
    assert not CapEntry.objects.filter(counter__cap=made).exists()
    assert desk.account.reserved == 0
    assert refused(desk).outcome == "cap_reached"


@pytest.mark.requirement("BUD-3")
def test_a_price_that_nobody_knows_is_refused_under_a_cap(desk):
    cap(desk, "100")
    with pytest.raises(UnknownPrice, match="is not known"):
        desk.call()
    assert refused(desk).outcome == "unknown_price"


def test_what_reads_the_catalog_costs_no_dollars_and_passes_under_any_cap(desk):
    cap(desk, "0")
    desk.call("list_providers", {})


def test_a_failed_call_gives_its_dollars_back(desk, known):
    made = cap(desk, "1")
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "status", "status": 429}})
    with pytest.raises(Exception, match="Rate"):
        desk.call()
    desk.sandbox.rules()
    counter = CapCounter.objects.get(cap=made)
    assert (counter.reserved_usd, counter.spent_usd) == (0, 0)


def test_a_call_whose_end_is_unknown_keeps_its_dollars_held(desk, known):
    made = cap(desk, "1")
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "cut"}})
    with pytest.raises(Exception):  # noqa: B017 - how it ends is told elsewhere
        desk.call()
    desk.sandbox.rules()
    assert desk.last_call().state == Call.State.UNKNOWN
    assert CapCounter.objects.get(cap=made).reserved_usd == desk.last_call().most_usd > 0


class Silent(OpenRouter):
    """A client whose service answers and says nothing of tokens and cost, or of the cost alone."""

    leaves_out = {"tokens_in": None, "tokens_out": None, "cost_usd": None}

    def send(self, request, **how):
        return replace(super().send(request, **how), **self.leaves_out)


class Billless(Silent):
    leaves_out = {"cost_usd": None}


def test_an_answer_that_does_not_say_its_tokens_takes_all_that_was_held(desk):
    call = desk.call(connection=desk.through(Silent)).call
    assert (call.state, call.credits) == ("done", call.credits_reserved)
    assert call.credits > 2 and desk.account.reserved == 0


@pytest.mark.parametrize("client", [Silent, Billless])
def test_a_bill_that_is_missing_counts_as_all_the_dollars_that_were_held(desk, known, client):
    made = cap(desk, "1")
    call = desk.call(connection=desk.through(client)).call
    counter = CapCounter.objects.get(cap=made)
    assert (counter.reserved_usd, counter.spent_usd) == (0, call.most_usd)


def test_the_catalogs_price_stands_beside_the_bill(desk, known):
    call = desk.call().call
    assert call.price_usd == pytest.approx(call.cost_usd, rel=Decimal("0.02"))


# --- policies ---------------------------------------------------------------------------


def floor(desk: Desk, holder: UUID | None = None, **rules) -> None:
    Policy.objects.create(
        team=desk.team, holder=holder or desk.team.pk, rules=rules, changed_by=desk.owner, changed_at=timezone.now()
    )


@pytest.mark.requirement("LLM-10")
def test_the_teams_floor_and_the_personas_policy_are_in_the_request(desk, known):
    persona = lend(desk)
    floor(desk, data_collection="deny")
    floor(desk, persona, max_price_out="900")
    call = desk.call(persona_id=persona, persona_name="Writer").call
    assert sent(call)["provider"]["data_collection"] == "deny"
    assert Decimal(sent(call)["provider"]["max_price"]["completion"]) == 900
    why = Event.objects.get(call_id=call.pk, action="call.started").details["why"]
    assert [step["words"] for step in why if step["rule"] == "policy"] == [
        "The team's floor: Providers that may train on prompts are left out.",
        "The policy of Writer: A million tokens out may cost $900.00 at most.",
    ]


@pytest.mark.requirement("LLM-10")
def test_a_model_that_no_policy_lets_through_is_refused_with_the_rule(desk, known):
    floor(desk, max_price_out="0.000001")
    lines = len(desk.sandbox.journal())
    with pytest.raises(PolicyRefuses, match=r"[Tt]he team's floor"):
        desk.call()
    assert len(desk.sandbox.journal()) == lines
    assert refused(desk).outcome == "policy_refuses"


def test_with_an_unknown_catalog_a_policy_on_models_refuses(desk):
    floor(desk, retention={"anthropic": "zdr"})
    with pytest.raises(PolicyRefuses):
        desk.call()


def test_a_policy_that_cannot_be_read_limits_all_the_same(desk):
    floor(desk, nonsense=1)
    with pytest.raises(PolicyRefuses, match="cannot be read"):
        desk.call()
    assert refused(desk).outcome == "policy_refuses"


def test_providers_that_a_grant_denies_are_ignored_upstream(desk, known):
    persona = lend(desk, providers={"allow": [], "deny": ["azure"]})
    call = desk.call(persona_id=persona, persona_name="Writer").call
    assert "azure" in sent(call)["provider"]["ignore"]


# --- pace -------------------------------------------------------------------------------


@pytest.mark.requirement("RATE-1")
def test_a_call_beyond_the_pace_is_refused_and_holds_nothing(desk, settings):
    settings.CALLS_A_MINUTE = {"team": 100, "member": 3, "persona": 100, "tool": 100}
    with pytest.raises(TooManyCalls, match="One member may make 3 calls a minute"):
        for _ in range(4):
            desk.call("list_providers", {})
    assert desk.account.reserved == 0
    assert refused(desk).outcome == "too_many_calls"


# --- what nobody expects ----------------------------------------------------------------


@pytest.mark.requirement("BUD-11")
def test_a_month_that_ends_in_mid_call_is_charged_where_it_was_held(desk, known, clock):
    made = cap(desk, "5", period="month")
    call = desk.call(on_text=lambda _: clock(days=40)).call
    assert call.finished_at - call.started_at > timedelta(days=39)
    account = CreditAccount.objects.get(pk=call.credit_account_id)
    assert account.period == call.started_at.date().replace(day=1)
    assert (account.reserved, account.spent) == (0, call.credits + 1)  # the test of the key took one
    counter = CapCounter.objects.get(cap=made)
    assert counter.period_start == account.period
    assert (counter.reserved_usd, counter.spent_usd) == (0, call.cost_usd)


def test_a_bill_of_ten_times_the_estimate_is_charged_shown_and_counts_for_the_next_call(desk, known):
    usual = desk.call().call
    made = cap(desk, str(usual.most_usd * 2))
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "dear", "factor": 100}})
    call = desk.call().call
    desk.sandbox.rules()
    assert call.cost_usd > usual.cost_usd * 90
    assert CapCounter.objects.get(cap=made).spent_usd == call.cost_usd
    assert "more" in call.bill_words
    if call.cost_usd > made.limit_usd:
        with pytest.raises(CapReached):
            desk.call()


# --- what is not priced by the token, and endpoints that nobody has read ----------------

SEARCH = {"tools": [{"type": "openrouter:web_search", "parameters": {"engine": "exa", "max_uses": 1}}]}
NATIVE = {"tools": [{"type": "openrouter:web_search"}]}
UNREAD = "openai/gpt-5.4"


@pytest.mark.requirement("BUD-3")
def test_a_search_without_a_known_price_is_refused_under_a_cap_with_what_to_do(desk, known):
    desk.call(arguments=QUESTION | NATIVE)  # without a cap nothing stands in its way
    made = cap(desk, "100", mode="expected")
    lines = len(desk.sandbox.journal())
    with pytest.raises(UnknownPrice, match=r'engine of openrouter:web_search to "exa"\. .* the team\'s cap of \$100'):
        desk.call(arguments=QUESTION | NATIVE)
    assert len(desk.sandbox.journal()) == lines
    assert not CapEntry.objects.filter(counter__cap=made).exists()


@pytest.mark.requirement("BUD-4")
def test_a_search_with_a_price_is_held_beside_the_tokens_and_ends_after_the_steps_that_were_counted(desk, known):
    free = desk.call(arguments=QUESTION | SEARCH).call
    assert "stop_server_tools_when" not in sent(free)
    made = cap(desk, "100")
    call = desk.call(arguments=QUESTION | SEARCH).call
    assert sent(call)["stop_server_tools_when"] == [{"type": "step_count_is", "step_count": 1}]
    held = CapEntry.objects.get(counter__cap=made, kind="reserve").usd
    assert held == call.most_usd == free.most_usd > desk.call().call.most_usd + Decimal("0.007")


@pytest.mark.requirement("BUD-4")
def test_no_endpoint_that_nobody_has_read_may_ask_more_than_was_held(desk, known):
    question = QUESTION | {"model": UNREAD, "provider": {"order": ["openai/priority"]}}
    assert known.find(UNREAD).endpoints is None
    assert "max_price" not in sent(desk.call(arguments=question).call)["provider"]
    cap(desk, "100")
    call = desk.call(arguments=question).call
    counted = pricing.dearest(known.find(UNREAD))
    assert Decimal(sent(call)["provider"]["max_price"]["completion"]) == pytest.approx(counted.tokens_out * 10**6)
    assert call.cost_usd <= call.most_usd
    with pytest.raises(ModelUnavailable):
        desk.call(arguments=question | {"provider": {"only": ["openai/priority"]}})
    assert sent(desk.call(arguments=QUESTION).call).get("provider") is None  # here all endpoints were counted with


def test_a_callers_own_lower_price_stays(desk, known):
    cap(desk, "100")
    own = {"max_price": {"prompt": "900", "completion": "1.9"}}
    with pytest.raises(ModelUnavailable):
        desk.call(arguments=QUESTION | {"model": UNREAD, "provider": own})
    given = sent(desk.last_call())["provider"]["max_price"]
    assert (given["completion"], Decimal(given["prompt"]) < 10) == ("1.9", True)


def test_a_shorter_answer_keeps_rules_that_are_longer_than_a_caller_may_write(desk, known):
    floor(desk, providers_never=[f"never-{number}" for number in range(150)])
    whole = desk.call(arguments=QUESTION | {"max_completion_tokens": 4000}).call
    cap(desk, str(whole.most_usd / 2))
    shortened = desk.call(arguments=QUESTION | {"max_completion_tokens": 4000}).call
    assert sent(shortened)["max_tokens"] < 4000
    assert len(sent(shortened)["provider"]["ignore"]) >= 150


# --- what a person allows, and the room of a cap ----------------------------------------


@pytest.mark.requirement("LLM-8")
def test_an_allowed_call_is_made_whatever_room_its_cap_has_meanwhile(desk, known):
    persona = lend(desk, tools={CHAT: {"rule": "ask"}})
    wanted = QUESTION | {"max_completion_tokens": 4000}
    who = {"persona_id": persona, "persona_name": "Writer"}
    whole = desk.call(arguments=wanted).call.most_usd
    made = cap(desk, str(whole / 3))
    with pytest.raises(NeedsApproval) as needed:
        desk.call(arguments=wanted, **who)
    assert needed.value.question.most_usd == whole
    approval = allow(needed.value.question)
    Cap.objects.filter(pk=made.pk).update(limit_usd=whole / 2)
    call = desk.call(arguments=wanted, approval_id=approval.pk, **who).call
    assert sent(call)["max_tokens"] < 4000
    assert call.most_usd <= whole / 2
    assert call.credits_reserved <= approval.most_credits


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("change", [{"max_completion_tokens": 4001}, {"temperature": 0.5}, {"model": UNREAD}])
def test_a_call_that_is_not_the_allowed_one_is_refused_however_short_a_cap_makes_it(desk, known, change):
    persona = lend(desk, tools={CHAT: {"rule": "ask"}})
    wanted = QUESTION | {"max_completion_tokens": 4000}
    who = {"persona_id": persona, "persona_name": "Writer"}
    cap(desk, "0.02")
    with pytest.raises(NeedsApproval) as needed:
        desk.call(arguments=wanted, **who)
    approval = allow(needed.value.question)
    with pytest.raises(NotApproved, match="not the call that was allowed"):
        desk.call(arguments=wanted | change, approval_id=approval.pk, **who)


def allow(question):
    approval = asked(question)
    deciding.decide(approval=approval, verdict="once", by=approval.user, at=app_now())
    return Approval.objects.get(pk=approval.pk)
