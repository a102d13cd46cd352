"""Asking first: what was allowed, by whom, for which call, how often and until when."""

import json
import threading
from dataclasses import fields, replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import connection as database
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Membership, User
from accounts.permissions import Role
from audit.actions import Actor
from audit.clock import app_now
from audit.models import Content, Event
from integrations import approvals, deciding
from integrations.approvals import NeedsApproval, NotApproved, Question, Reason
from integrations.deciding import AlreadyDecided, CannotWiden, NotYours
from integrations.models import Approval, Call
from integrations.openrouter.tools import OPENROUTER
from integrations.preparing import as_plain
from integrations.registry import parse_arguments
from integrations.scopes import read_scopes
from tests.factories import make_member, make_stranger, make_team, make_user
from tests.integrations.questions import ARGUMENTS, CHAT, FIRST, SECOND, asked, make_question
from vault import actions as vault
from vault.models import Grant

pytestmark = pytest.mark.django_db

DEAREST = "openai/gpt-5-pro"


@pytest.fixture
def question() -> Question:
    return make_question(make_team())


def owner_in(question: Question) -> User:
    return User.objects.get(pk=question.user_id)


def decided(approval: Approval, verdict: str = "once", by: User | None = None) -> Approval:
    deciding.decide(approval=approval, verdict=verdict, by=by or approval.user, at=app_now())
    approval.refresh_from_db()
    return approval


def allowed(question: Question) -> Approval:
    return decided(asked(question))


def use(approval: Approval, *, call_id: UUID | None = None, **changes) -> UUID:
    """Use an approval as the call path does."""
    call_id = call_id or uuid4()
    given = {"approval_id": approval.pk, "team_id": approval.team_id, "sha256": approval.request_sha256}
    with transaction.atomic():
        approvals.consume(**(given | changes), call_id=call_id, call_started_at=app_now())
    return call_id


def refusal(approval: Approval, question: Question) -> Reason:
    with pytest.raises(NotApproved) as caught:
        approvals.check(approval.pk, question)
    assert str(caught.value).endswith(".")
    return caught.value.reason


def must_ask_again(approval: Approval, question: Question) -> bool:
    with pytest.raises(NeedsApproval) as caught:
        approvals.check(approval.pk, question)
    return caught.value.question == question


def events(approval: Approval) -> list[str]:
    log = Event.objects.filter(target=f"approval:{approval.pk}").order_by("at", "id")
    return list(log.values_list("action", flat=True))


def made_call(approval: Approval, **how) -> Call:
    """The call that used an approval, and how it ended."""
    approval.refresh_from_db()
    given = {"state": "failed", "credits": 0, "finished_at": app_now(), "actor_kind": "user"} | how
    return Call.objects.create(
        id=approval.call_id,
        started_at=approval.call_started_at,
        team_id=approval.team_id,
        connection_id=approval.connection_id,
        tool=approval.tool,
        **given,
    )


# --- what was allowed cannot change -----------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "model"), plain, max_size=4)
SOMEBODY = Question(
    *(UUID(int=1), UUID(int=2), CHAT, (FIRST,), UUID(int=3), UUID(int=4), "Broker"),
    *(UUID(int=5), UUID(int=6), UUID(int=7), False, {}, 8, None),
)


@pytest.mark.requirement("LLM-8")
@given(one=objects, other=objects)
def test_other_arguments_never_have_the_same_fingerprint(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    first, second = (approvals.fingerprint(replace(SOMEBODY, arguments=given)) for given in (one, other))
    assert (first == second) == same


@pytest.mark.requirement("LLM-8")
@given(arguments=objects, name=st.text(max_size=8).filter(lambda name: name != "model"), value=plain)
def test_one_more_argument_is_another_call(arguments, name, value):
    before = json.dumps(arguments, sort_keys=True)
    changed = arguments | {name: value}
    if json.dumps(changed, sort_keys=True) != before:
        fingerprint = approvals.fingerprint(replace(SOMEBODY, arguments=arguments))
        assert approvals.fingerprint(replace(SOMEBODY, arguments=changed)) != fingerprint


BOUND = {
    "team_id": uuid4(),
    "connection_id": uuid4(),
    "tool": "create_message",
    "chain": (SECOND, FIRST),
    "user_id": uuid4(),
    "persona_id": uuid4(),
    "flow_id": None,
    "run_id": uuid4(),
    "stage_id": uuid4(),
    "unattended": True,
    "arguments": {"messages": []},
}
SHOWN_ONLY = {"persona_name", "most_credits", "most_usd", "approvers", "untrusted"}  # amounts are compared, not hashed


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("name", BOUND)
def test_an_approval_is_bound_to_who_what_and_where(name):
    assert approvals.fingerprint(replace(SOMEBODY, **{name: BOUND[name]})) != approvals.fingerprint(SOMEBODY)


def test_every_field_of_a_question_is_bound_or_named_as_not():
    assert {field.name for field in fields(Question)} == {*BOUND, *SHOWN_ONLY}


def test_the_fingerprint_does_not_depend_on_the_order_of_fields():
    turned = dict(reversed(ARGUMENTS.items()))
    before = approvals.fingerprint(replace(SOMEBODY, arguments=ARGUMENTS))
    assert approvals.fingerprint(replace(SOMEBODY, arguments=turned)) == before


def test_a_number_that_is_none_has_no_fingerprint():
    with pytest.raises(ValueError, match="JSON"):
        approvals.fingerprint(replace(SOMEBODY, arguments={"temperature": float("nan")}))


WALLET = "0x" + "a1" * 20
# What is not named takes no argument.
SAMPLES = {
    CHAT: ARGUMENTS | {"max_completion_tokens": 20, "provider": {"order": ["Azure"]}, "stop": ["x"], "top_p": 1},
    "create_message": {"model": FIRST, "messages": ARGUMENTS["messages"], "max_tokens": 20, "temperature": 1.0},
    "create_coinbase_charge": {"amount": "5.00", "sender": WALLET, "chain_id": 1},
    "list_model_endpoints": {"model": FIRST},
    "list_available_models": {"q": "gpt", "limit": 3},
    "get_generation": {"id": "gen-1700000000-0123456789abcdefghij", "wait": False},
}


@pytest.mark.parametrize("tool", OPENROUTER.tools, ids=lambda tool: tool.name)
def test_checked_arguments_are_the_same_call_when_they_are_checked_again(tool):
    once = as_plain(parse_arguments(tool, SAMPLES.get(tool.name, {})))
    twice = as_plain(parse_arguments(tool, json.loads(json.dumps(once))))
    assert json.dumps(once, sort_keys=True) == json.dumps(twice, sort_keys=True)


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("name", [name for name in BOUND if name not in {"team_id", "chain"}])
def test_a_call_that_changed_after_it_was_allowed_is_refused(question, name):
    approval = allowed(question)
    assert refusal(approval, replace(question, **{name: BOUND[name]})) == Reason.CHANGED
    assert approvals.check(approval.pk, question) == approval.request_sha256  # and the true one still goes


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"most_credits": 9}, Reason.CHANGED),
        ({"most_credits": 8}, None),
        ({"most_usd": Decimal("0.0125000001")}, Reason.CHANGED),
        ({"most_usd": None}, Reason.CHANGED),  # nobody knows any more what it costs
        ({"most_usd": Decimal("0.0124")}, None),
        ({"most_usd": Decimal("0.0125000000001")}, None),  # the same to the last decimal that is kept
    ],
)
def test_a_call_may_not_take_more_than_was_shown(question, change, expected):
    approval = allowed(question)
    if expected:
        assert refusal(approval, replace(question, **change)) == expected
    else:
        approvals.check(approval.pk, replace(question, **change))


def test_who_allowed_a_call_of_unknown_price_allowed_any(question):
    approval = allowed(replace(question, most_usd=None))
    approvals.check(approval.pk, question)


# --- models -----------------------------------------------------------------------------


def test_a_fallback_that_was_shown_needs_no_second_approval(question):
    approval = allowed(question)
    later = replace(question, chain=(SECOND,), arguments=ARGUMENTS | {"model": SECOND})
    assert approvals.check(approval.pk, later) == approval.request_sha256


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize(
    "change",
    [
        {"arguments": ARGUMENTS | {"model": DEAREST}},
        {"chain": (FIRST, DEAREST)},
        {"chain": (), "arguments": ARGUMENTS | {"model": DEAREST}},
        {"arguments": ARGUMENTS | {"models": [DEAREST]}},
    ],
)
def test_a_model_that_was_not_shown_is_refused(question, change):
    assert refusal(allowed(question), replace(question, **change)) == Reason.CHANGED


def test_a_call_without_a_chain_is_allowed_for_its_own_model_only(question):
    approval = allowed(replace(question, chain=()))
    assert approval.chain == [FIRST]
    assert refusal(approval, replace(question, arguments=ARGUMENTS | {"model": SECOND})) == Reason.CHANGED


# --- states -----------------------------------------------------------------------------


def test_an_approval_that_is_not_there_allows_nothing(question):
    with pytest.raises(NotApproved) as caught:
        approvals.check(uuid4(), question)
    assert caught.value.reason == Reason.MISSING


@pytest.mark.requirement("LLM-8")
def test_another_teams_approval_allows_nothing(question):
    approval = allowed(question)
    elsewhere = replace(question, team_id=make_team().pk)
    assert refusal(approval, elsewhere) == Reason.MISSING
    with pytest.raises(NotApproved):
        approvals.check(approval, elsewhere)
    with pytest.raises(NotApproved) as caught:
        use(approval, team_id=elsewhere.team_id)
    assert caught.value.reason == Reason.MISSING


def test_a_question_nobody_answered_allows_nothing(question):
    approval = asked(question)
    assert refusal(approval, question) == Reason.WAITING
    with pytest.raises(NotApproved):
        use(approval)


def test_a_refused_call_says_who_refused_it(question):
    approval = decided(asked(question), "refused")
    with pytest.raises(NotApproved, match=owner_in(question).email) as caught:
        approvals.check(approval.pk, question)
    assert caught.value.reason == Reason.REFUSED
    with pytest.raises(NotApproved):
        use(approval)


@pytest.mark.requirement("LLM-8")
def test_an_approval_that_expired_allows_nothing(question, clock):
    approval = allowed(question)
    clock(hours=73)
    assert refusal(approval, question) == Reason.EXPIRED
    with pytest.raises(NotApproved) as caught:
        use(approval)
    assert caught.value.reason == Reason.EXPIRED


def test_a_hash_of_another_call_uses_nothing_up(question):
    approval = allowed(question)
    with pytest.raises(NotApproved) as caught:
        use(approval, sha256="0" * 64)
    assert caught.value.reason == Reason.CHANGED
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED


# --- once -------------------------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_an_approval_serves_one_call(question):
    approval = allowed(question)
    call_id = use(approval)
    with pytest.raises(NotApproved) as caught:
        use(approval)
    assert caught.value.reason == Reason.USED
    assert must_ask_again(approval, question)
    approval.refresh_from_db()
    assert (approval.state, approval.call_id) == ("used", call_id)


def test_a_call_that_is_not_opened_after_all_leaves_the_approval(question):
    approval = allowed(question)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        use(approval)
        raise ZeroDivisionError
    approval.refresh_from_db()
    assert approval.state == Approval.State.APPROVED


def test_a_call_that_did_nothing_gives_its_approval_back(question):
    approval = allowed(question)
    use(approval)
    made_call(approval)
    assert approvals.check(approval.pk, question) == approval.request_sha256
    again = use(approval)
    approval.refresh_from_db()
    assert approval.call_id == again
    assert must_ask_again(approval, question)  # the second call is under way


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize(
    "how",
    [
        {"state": "sent", "credits": None, "finished_at": None},
        {"state": "unknown", "credits": None},
        {"state": "done", "credits": 3},
        {"state": "done", "credits": 0},
        {"state": "failed", "credits": 3},
        {"state": "failed", "credits": 0, "cost_usd": Decimal("0.000001")},
    ],
    ids=str,
)
def test_a_call_that_may_have_done_something_keeps_its_approval(question, how):
    approval = allowed(question)
    use(approval)
    made_call(approval, **how)
    assert must_ask_again(approval, question)
    with pytest.raises(NotApproved):
        use(approval)
    again = asked(question)
    assert (again.state, again.pk == approval.pk) == ("waiting", False)


@pytest.mark.requirement("LLM-8")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("given_back", [False, True])
def test_of_many_workers_with_one_approval_one_makes_the_call(question, given_back):
    approval = allowed(question)
    if given_back:
        use(approval)
        made_call(approval)
    start, passed, refused = threading.Barrier(8), [], []

    def worker() -> None:
        start.wait()
        try:
            passed.append(use(approval))
        except NotApproved as error:
            refused.append(error.reason)
        finally:
            database.close()

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    approval.refresh_from_db()
    assert [approval.call_id] == passed
    assert refused == [Reason.USED] * 7


# --- asking -----------------------------------------------------------------------------


def test_asking_seals_what_is_asked_and_logs_it_without_a_word_of_it(question):
    approval = asked(question)
    event = Event.objects.get(action="approval.asked")
    assert (event.content_id, event.request_sha256) == (approval.arguments_content_id, approval.request_sha256)
    assert (event.tool, event.persona_name, event.run_id) == (CHAT, "Broker", question.run_id)
    assert b"boat" not in bytes(event.canon)
    assert b"boat" not in bytes(Content.objects.get(pk=event.content_id).ciphertext)
    assert approvals.frozen_arguments(approval) == ARGUMENTS


def test_asking_twice_for_the_same_call_is_one_question(question):
    assert asked(question) == asked(question)
    assert events(Approval.objects.get()) == ["approval.asked"]


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("change", [{"arguments": {"messages": []}}, {"most_credits": 9}, {"chain": (FIRST,)}])
def test_asking_for_something_else_withdraws_what_was_asked_before(question, change):
    before = allowed(question)
    after = asked(replace(question, **change))
    before.refresh_from_db()
    assert (before.state, after.state) == ("withdrawn", "waiting")
    assert events(before) == ["approval.asked", "approval.allowed", "approval.withdrawn"]
    assert refusal(before, question) == Reason.WITHDRAWN


def test_asking_again_after_the_question_expired_is_a_new_question(question, clock):
    before = asked(question)
    clock(hours=73)
    after = asked(question)
    before.refresh_from_db()
    assert (before.state, after.state) == ("expired", "waiting")


def test_calls_outside_a_stage_are_asked_one_by_one(question):
    outside = replace(question, run_id=None, stage_id=None)
    assert asked(outside) != asked(outside)


# --- deciding ---------------------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_a_role_without_the_right_decides_nothing(question, role):
    approval = asked(question)
    with pytest.raises(NotYours, match=role):
        decided(approval, by=make_member(owner_in(question).memberships.get().team, role))
    approval.refresh_from_db()
    assert (approval.state, events(approval)) == ("waiting", ["approval.asked"])


def test_strangers_and_former_members_decide_nothing(question):
    approval, former = asked(question), make_member(owner_in(question).memberships.get().team, Role.ADMIN)
    Membership.objects.filter(user=former).delete()
    for outsider in (make_stranger(), former):
        with pytest.raises(NotYours):
            decided(approval, by=outsider)


def test_a_closed_account_decides_nothing(question):
    approval, admin = asked(question), make_member(owner_in(question).memberships.get().team, Role.ADMIN)
    User.objects.filter(pk=admin.pk).update(is_active=False)
    with pytest.raises(NotYours):
        decided(approval, by=admin)


def test_the_role_counts_that_somebody_has_when_they_decide(question):
    approval, admin = asked(question), make_member(owner_in(question).memberships.get().team, Role.ADMIN)
    Membership.objects.filter(user=admin).update(role=Role.MEMBER)
    with pytest.raises(NotYours):
        decided(approval, by=admin)


def test_where_approvers_are_named_only_they_and_owners_decide(question):
    team = owner_in(question).memberships.get().team
    admin, named, auditor = (make_member(team, role) for role in (Role.ADMIN, Role.MEMBER, Role.AUDITOR))
    question = replace(question, approvers=(named.pk, auditor.pk))
    for nobody in (admin, auditor):
        with pytest.raises(NotYours):
            decided(asked(question), by=nobody)
    assert decided(asked(question), by=named).decided_by == named
    assert decided(asked(replace(question, stage_id=uuid4()))).decided_by == owner_in(question)


@pytest.mark.requirement("LLM-8")
@pytest.mark.django_db(transaction=True)
def test_of_two_tabs_one_decides_and_the_other_learns_who(question):
    team, approval = owner_in(question).memberships.get().team, asked(question)
    people = [make_member(team, Role.ADMIN) for _ in range(2)]
    start, won, told = threading.Barrier(2), [], []

    def tab(person: User, verdict: str) -> None:
        start.wait()
        try:
            deciding.decide(approval=approval, verdict=verdict, by=person, at=app_now())
            won.append(person.email)
        except AlreadyDecided as error:
            told.append(str(error))
        finally:
            database.close()

    threads = [threading.Thread(target=tab, args=pair) for pair in zip(people, ("once", "refused"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    approval.refresh_from_db()
    assert won == [approval.decided_by.email]
    assert len(told) == 1
    assert won[0] in told[0]
    assert len(events(approval)) == 2


def test_deciding_too_late_says_so(question, clock):
    approval = asked(question)
    clock(hours=73)
    with pytest.raises(AlreadyDecided, match="expired"):
        decided(approval)


def test_a_decision_is_logged_with_its_verdict(question):
    approval = allowed(question)
    assert events(approval) == ["approval.asked", "approval.allowed"]
    event = Event.objects.get(action="approval.allowed")
    assert (event.actor_id, event.outcome) == (str(question.user_id), "once")


# --- from now on ------------------------------------------------------------------------


def grant(question: Question, holder: UUID, scopes: dict) -> Grant:
    owner = owner_in(question)
    team = owner.memberships.get().team
    return vault.grant(
        team=team, holder=holder, connection=question.connection_id, scopes=scopes, by=owner, at=app_now()
    )


def test_always_changes_one_rule_of_the_grant_and_nothing_else(question):
    rules = {"rule": "ask", "pinned": {"temperature": 0}, "max_tokens": 400, "unattended": False}
    scopes = {"tools": {CHAT: rules, "get_credits": "ask"}, "models": {"allow": ["openai/*"]}, "one_run": True}
    given = grant(question, question.persona_id, scopes)
    decided(asked(question), "always")
    given.refresh_from_db()
    after = scopes | {"tools": scopes["tools"] | {CHAT: rules | {"rule": "allowed"}}}
    assert read_scopes(given.scopes) == read_scopes(after)
    event = Event.objects.get(action="integrations.scopes.changed")
    assert (event.actor_id, event.target) == (str(question.user_id), f"grant:{given.pk}")


@pytest.mark.requirement("LLM-7")
def test_always_lets_an_allowed_tool_work_after_text_of_strangers(question):
    rules = {"rule": "allowed", "max_tokens": 300}
    given = grant(question, question.persona_id, {"tools": {CHAT: rules}})
    decided(asked(question), "always")
    given.refresh_from_db()
    assert read_scopes(given.scopes) == read_scopes({"tools": {CHAT: rules | {"after_untrusted": True}}})


def test_always_changes_the_flows_grant_where_the_persona_has_none(question):
    given = grant(question, question.flow_id, {"tools": {CHAT: "ask"}})
    approval = decided(asked(question), "always")
    given.refresh_from_db()
    assert read_scopes(given.scopes) == read_scopes({"tools": {CHAT: "allowed"}})
    assert approval.always


def test_always_with_a_grant_that_names_somebody_who_left_decides_nothing(question):
    grant(question, question.persona_id, {"tools": {CHAT: "ask"}, "approvers": [str(make_user().pk)]})
    approval = asked(question)
    with pytest.raises(CannotWiden, match="not a member"):
        decided(approval, "always")
    approval.refresh_from_db()
    assert approval.state == "waiting"


def test_always_needs_the_right_to_edit_personas(question):
    named = make_member(owner_in(question).memberships.get().team, Role.MEMBER)
    approval = asked(replace(question, approvers=(named.pk,)))
    with pytest.raises(NotYours, match="once"):
        decided(approval, "always", by=named)
    assert decided(approval, by=named).state == "approved"


def test_always_switches_nothing_on_that_was_switched_off_meanwhile(question):
    given = grant(question, question.persona_id, {"tools": {CHAT: "ask"}})
    approval = asked(question)
    grant(question, question.persona_id, {"tools": {CHAT: "off"}})
    with pytest.raises(CannotWiden, match="off"):
        decided(approval, "always")
    given.refresh_from_db()
    approval.refresh_from_db()
    assert (read_scopes(given.scopes).rule_of(CHAT), approval.state) == ("off", "waiting")


def test_always_without_a_grant_decides_nothing(question):
    approval = asked(question)
    with pytest.raises(CannotWiden):
        decided(approval, "always")
    approval.refresh_from_db()
    assert approval.state == "waiting"


# --- endings without a decision ---------------------------------------------------------


def test_the_sweeper_ends_what_expired_waiting_or_allowed(question, clock):
    waiting, unused = asked(question), allowed(replace(question, stage_id=uuid4()))
    assert deciding.expire_due() == 0
    clock(hours=73)
    fresh = asked(replace(question, stage_id=uuid4()))
    assert deciding.expire_due() == 2
    assert deciding.expire_due() == 0
    assert [events(row)[-1] for row in (waiting, unused, fresh)] == [
        "approval.expired",
        "approval.expired",
        "approval.asked",
    ]


def test_one_approval_can_be_ended_when_its_time_is_over(question, clock):
    mine, other = asked(question), asked(replace(question, stage_id=uuid4()))
    assert deciding.expire_due(approval_id=mine.pk) == 0
    clock(hours=73)
    assert deciding.expire_due(approval_id=mine.pk) == 1
    other.refresh_from_db()
    assert other.state == "waiting"


def test_a_run_that_ends_takes_its_open_questions_back_and_only_those(question):
    waiting, used = asked(question), allowed(replace(question, stage_id=uuid4()))
    use(used)
    other = asked(replace(question, run_id=uuid4(), stage_id=uuid4()))
    by = Actor.user(make_user())
    assert deciding.withdraw(run_id=question.run_id, at=app_now(), actor=by) == 1
    states = [Approval.objects.get(pk=row.pk).state for row in (waiting, used, other)]
    assert states == ["withdrawn", "used", "waiting"]
    with pytest.raises(AlreadyDecided, match="withdrawn"):
        decided(waiting)
