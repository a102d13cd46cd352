"""Lending a connection within scopes: what is kept, who is first, and what the log says."""

import threading
from uuid import uuid4

import pytest
from django.db import connections

from accounts.permissions import Role
from audit.ids import uuid7
from audit.models import Event
from integrations import actions, lending
from integrations.actions import ScopesChanged
from integrations.binding import bind_one_run
from integrations.registry import get_integration, get_tool
from integrations.scopes import BadScopes, Rule, read_scopes
from tests.factories import make_member, make_team, make_user, owner_of
from tests.route_samples import a_connection
from vault.models import Grant

CHAT, MODELS = "create_chat_completion", "list_available_models"


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def connection(team):
    return team.connections.get(pk=a_connection(team))


def lend(connection, data, *, holder=None, **more):
    """Lend as the owner."""
    return actions.set_scopes(
        connection=connection,
        holder=holder or uuid7(),
        name="Nachtbote",
        scopes=read_scopes(data),
        by=owner_of(connection.team),
        **more,
    )


def kept(grant):
    return read_scopes(Grant.objects.get(pk=grant.pk).scopes)


# --- what is kept -------------------------------------------------------------------------


def test_what_is_lent_is_kept_as_it_is(connection):
    data = {
        "tools": {CHAT: {"rule": "ask", "pinned": {"temperature": 0.5}, "max_tokens": 100}},
        "models": {"allow": ["openai/*"]},
        "approvers": [str(owner_of(connection.team).pk)],
    }

    assert kept(lend(connection, data)) == read_scopes(data)


def test_lending_again_changes_the_one_grant(connection):
    holder = uuid7()
    first = lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder)
    second = lend(connection, {"tools": {CHAT: "ask"}}, holder=holder)

    assert first.pk == second.pk
    assert kept(first).rule_of(CHAT) is Rule.ASK


@pytest.mark.parametrize(
    "data",
    [
        {"tools": {"buy_everything": "allowed"}},
        {"tools": {CHAT: {"rule": "ask", "pinned": {"max_tokens": 5}}}},
        {"tools": {CHAT: {"rule": "ask", "pinned": {"temperature": "hot"}}}},
        {"tools": {CHAT: {"rule": "ask", "pinned": {"api_key": "sk-or-v1-secret"}}}},
        {"approvers": [str(uuid4())]},
    ],
)
def test_what_does_not_exist_cannot_be_lent(connection, data):
    with pytest.raises(BadScopes) as refusal:
        lend(connection, data)

    assert "secret" not in str(refusal.value)
    assert not Grant.objects.exists()


def test_only_members_of_the_team_can_be_named_to_approve(connection):
    member, stranger = make_member(connection.team, Role.MEMBER), make_user()

    lend(connection, {"approvers": [str(member.pk)]})
    with pytest.raises(BadScopes):
        lend(connection, {"approvers": [str(member.pk), str(stranger.pk)]})


def test_another_team_s_grants_stay_apart(connection):
    other_team = make_team()
    other = other_team.connections.get(pk=a_connection(other_team))
    holder = uuid7()
    lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder)
    lend(other, {"tools": {CHAT: "off"}}, holder=holder)

    assert read_scopes(connection.team.grants.get().scopes).rule_of(CHAT) is Rule.ALLOWED


# --- the log ------------------------------------------------------------------------------


def test_the_log_says_before_and_after_in_sentences(connection):
    holder = uuid7()
    lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder)
    grant = lend(connection, {"tools": {CHAT: "ask"}, "models": {"deny": ["*:free"]}}, holder=holder)

    event = Event.objects.filter(action="integrations.scopes.changed").latest("id")
    assert (event.team_id, event.target) == (connection.team_id, f"grant:{grant.pk}")
    assert event.target_name == f"Nachtbote, {connection.label}"
    assert event.details == {
        "changes": [
            "Nachtbote must now ask a person before it uses Create chat completion.",
            "Models like *:free may not be asked.",
        ],
        "before": ["Nachtbote may now use Create chat completion without asking."],
        "after": [
            "Nachtbote may now use Create chat completion, after asking a person.",
            "Models like *:free may not be asked.",
        ],
    }


def test_pinned_values_stay_out_of_the_log(connection):
    data = {"tools": {CHAT: {"rule": "allowed", "pinned": {"model": "openai/hidden-model"}}}}
    lend(connection, data)

    assert "hidden-model" not in str(list(Event.objects.values_list("details", "canon")))


# --- two at once --------------------------------------------------------------------------


def test_a_change_made_from_an_old_page_is_refused(connection):
    holder = uuid7()
    first = lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder)
    seen = lending.fingerprint(first.scopes)
    lend(connection, {"tools": {CHAT: "off"}}, holder=holder, seen=seen)

    with pytest.raises(ScopesChanged):
        lend(connection, {"tools": {CHAT: "ask"}}, holder=holder, seen=seen)

    assert kept(first).rule_of(CHAT) is Rule.OFF


def test_a_first_grant_from_two_pages_is_made_once(connection):
    holder = uuid7()
    lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder, seen=lending.NO_GRANT)

    with pytest.raises(ScopesChanged):
        lend(connection, {"tools": {CHAT: "ask"}}, holder=holder, seen=lending.NO_GRANT)


@pytest.mark.django_db(transaction=True)
def test_of_many_tabs_at_once_one_wins():
    team = make_team()
    connection = team.connections.get(pk=a_connection(team))
    holder, barrier, results = uuid7(), threading.Barrier(6), []

    def tab() -> None:
        barrier.wait()
        try:
            lend(connection, {"tools": {CHAT: "allowed"}}, holder=holder, seen=lending.NO_GRANT)
            results.append("applied")
        except ScopesChanged:
            results.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=tab) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert sorted(results) == ["applied"] + ["refused"] * 5
    assert Grant.objects.live().count() == 1


# --- for one run --------------------------------------------------------------------------


def bind(grant, run_id):
    return bind_one_run(team_id=grant.team_id, connection_id=grant.connection, holder=grant.holder, run_id=run_id)


def test_the_first_run_that_uses_a_grant_for_one_run_gets_it(connection):
    grant = lend(connection, {"tools": {CHAT: "allowed"}, "one_run": True})
    first, second = uuid7(), uuid7()

    assert [bind(grant, first), bind(grant, second), bind(grant, first)] == [True, False, True]
    assert kept(grant).only_run == first
    assert not kept(grant).wants_run


def test_a_grant_that_is_not_for_one_run_or_was_revoked_is_bound_to_none(connection):
    open_grant = lend(connection, {"tools": {CHAT: "allowed"}})
    ended = lend(connection, {"one_run": True})
    actions.disable_for(connection=connection, persona_id=ended.holder, by=owner_of(connection.team))

    assert [bind(open_grant, uuid7()), bind(ended, uuid7())] == [False, False]


@pytest.mark.django_db(transaction=True)
def test_of_many_runs_at_once_one_gets_the_grant():
    team = make_team()
    grant = lend(team.connections.get(pk=a_connection(team)), {"one_run": True})
    barrier, results = threading.Barrier(6), []

    def run() -> None:
        barrier.wait()
        results.append(bind(grant, uuid7()))
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert sorted(results) == [False] * 5 + [True]


# --- the quick way ------------------------------------------------------------------------


def enable(connection, holder, *tools):
    grant = actions.enable_for(connection=connection, persona_id=holder, tools=tools, by=owner_of(connection.team))
    return kept(grant)


def test_ticking_tools_keeps_the_limits_of_those_that_were_on(connection):
    limits = {"rule": "ask", "max_tokens": 100, "unattended": False}
    grant = lend(connection, {"tools": {CHAT: limits}, "models": {"deny": ["*:free"]}})

    after = enable(connection, grant.holder, CHAT, MODELS)

    assert after.tools[CHAT].model_dump() | limits == after.tools[CHAT].model_dump()
    assert after.rule_of(MODELS) is Rule.ALLOWED
    assert after.models.deny == ("*:free",)


def test_unticking_a_tool_switches_it_off_and_keeps_its_limits(connection):
    grant = lend(connection, {"tools": {CHAT: {"rule": "allowed", "max_tokens": 100}}})

    after = enable(connection, grant.holder, MODELS)

    assert (after.rule_of(CHAT), after.tools[CHAT].max_tokens) == (Rule.OFF, 100)


# --- pinned arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "pinned",
    [
        {},
        {"temperature": 0.5},
        {"provider": {"zdr": True}},
        {"models": ["openai/gpt-5"]},
        {"messages": [{"role": "system", "content": "Be brief."}]},
    ],
)
def test_arguments_that_the_tool_knows_can_be_fixed(pinned):
    assert lending.pin_problems(get_tool("openrouter", CHAT), pinned) == []


@pytest.mark.parametrize(
    ("pinned", "problem"),
    [
        ({"temperature": 9}, "temperature: This must be at most 2."),
        ({"provider": {"zdrr": True}}, "provider.zdrr: There is no such field."),
        ({"max_tokens": 5}, "max_tokens: There is no argument of this name."),
        ({"user": "x"}, "user: There is no argument of this name."),
    ],
)
def test_arguments_that_the_tool_does_not_know_are_named(pinned, problem):
    [found] = lending.pin_problems(get_tool("openrouter", CHAT), pinned)

    assert found.startswith(problem)


def test_every_tool_accepts_scopes_without_pins():
    integration = get_integration("openrouter")
    everything = read_scopes({"tools": {tool.name: "allowed" for tool in integration.tools}})

    assert lending.problems(everything, integration) == []
