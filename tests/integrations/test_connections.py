"""Lending a key, finding out what it reaches, giving it to personas, and taking it away again."""

from uuid import uuid4

import pytest

from audit.models import Event
from integrations import actions, tasks
from integrations.models import Call, Connection
from integrations.openrouter.tools import OPENROUTER, TOOLS
from integrations.scopes import allowed_tools
from tests.integrations.desk import CHAT, Desk
from vault.actions import AlreadyRevoked, LabelTaken
from vault.models import Credential, Grant

pytestmark = pytest.mark.django_db

NEEDS_MANAGEMENT = "Needs a management key; this is an API key."
NEEDS_API_KEY = "Needs an API key; a management key cannot do this."


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox)
    sandbox.rules()


def post(desk: Desk, label: str = "Second") -> Connection:
    return actions.connect(
        team=desk.team, integration=OPENROUTER, label=label, kind="api_key", posted=desk.sandbox.key(), by=desk.owner
    )


def actions_of(desk: Desk, connection: Connection) -> list[str]:
    target = f"connection:{connection.pk}"
    events = Event.objects.filter(team_id=desk.team.pk, target=target, action__startswith="integrations")
    return list(events.order_by("at", "id").values_list("action", flat=True))


def test_a_fresh_connection_waits_for_its_test(desk):
    connection = post(desk)

    assert (connection.state, connection.reach, connection.can_use(CHAT)) == ("pending", {}, False)
    assert connection.test_wanted_at is not None
    assert actions_of(desk, connection) == ["integrations.connection.made"]


def test_an_api_key_reaches_all_but_the_account_and_what_was_withdrawn(desk):
    reach = desk.connection.reach

    assert desk.connection.state == "ready"
    assert reach.keys() == {tool.name for tool in TOOLS}
    assert reach["get_credits"] == NEEDS_MANAGEMENT
    assert "removed its Coinbase purchase" in reach["create_coinbase_charge"]
    assert {name for name, reason in reach.items() if reason} == {"get_credits", "create_coinbase_charge"}
    assert desk.connection.account["kind"] == "api"
    assert desk.connection.test_wanted_at is None


def test_a_management_key_reaches_the_account_and_no_model(sandbox, desk):
    reach = Desk(sandbox, management=True).connection.reach

    assert (reach["get_credits"], reach["get_current_key"]) == ("", "")
    assert reach[CHAT] == reach["create_message"] == NEEDS_API_KEY


@pytest.mark.parametrize("wish", [{"expired": True}, {"disabled": True}])
def test_a_key_that_ended_is_refused_with_the_reason(sandbox, desk, wish):
    connection = Desk(sandbox, **wish).connection

    assert connection.state == "refused"
    assert connection.state_reason.startswith("The provider refuses this key:")
    assert not any(connection.can_use(tool.name) for tool in TOOLS)


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 429}, {"kind": "cut"}, {"kind": "garbage"}])
def test_a_provider_in_trouble_condemns_no_key(desk, fault):
    desk.sandbox.rules({"match": {"path": "/key"}, "answer": fault | {"times": 1}})
    connection = desk.connect(desk.sandbox.key(), label="Second")
    assert (connection.state, bool(connection.state_reason)) == ("unreachable", True)

    actions.ask_for_test(connection=connection, by=desk.owner)
    tasks.test_connection(connection_id=str(connection.pk))

    connection.refresh_from_db()
    assert (connection.state, connection.state_reason) == ("ready", "")


def test_testing_twice_changes_nothing(desk):
    before = Connection.objects.filter(pk=desk.connection.pk).values("state", "account", "reach").get()

    actions.run_test(connection=desk.connection)

    assert Connection.objects.filter(pk=desk.connection.pk).values("state", "account", "reach").get() == before


def test_a_test_that_nobody_wants_is_not_made(desk):
    lines = len(desk.sandbox.journal())

    tasks.test_connection(connection_id=str(desk.connection.pk))
    tasks.test_connection(connection_id=str(uuid4()))

    assert len(desk.sandbox.journal()) == lines


def test_a_lost_hint_is_repeated_every_ten_seconds_and_no_oftener(desk, clock):
    connection = post(desk)
    wanted = []
    for seconds in (5, 11, 16, 22):
        clock(seconds=seconds)
        tasks.sweep()
        connection.refresh_from_db()
        wanted.append(connection.test_wanted_at)

    assert wanted[0] < wanted[1] == wanted[2] < wanted[3]


def test_a_label_is_taken_until_its_connection_is_revoked(desk):
    with pytest.raises(LabelTaken):
        post(desk, "Main")
    actions.revoke(connection=desk.connection, by=desk.owner)

    assert post(desk, "Main").is_live


def test_a_persona_gets_exactly_the_tools_that_are_named(desk):
    persona_id = uuid4()

    grant = actions.enable_for(connection=desk.connection, persona_id=persona_id, tools=[CHAT, "rm_rf"], by=desk.owner)
    assert allowed_tools(grant.scopes) == {CHAT}
    actions.enable_for(connection=desk.connection, persona_id=persona_id, tools=["list_providers"], by=desk.owner)

    (live,) = Grant.objects.live().filter(holder=persona_id)
    assert allowed_tools(live.scopes) == {"list_providers"}


def test_taking_a_connection_from_a_persona_works_once(desk):
    persona_id = desk.grant(CHAT)
    actions.disable_for(connection=desk.connection, persona_id=persona_id, by=desk.owner)

    with pytest.raises(AlreadyRevoked):
        actions.disable_for(connection=desk.connection, persona_id=persona_id, by=desk.owner)


def test_revoking_ends_key_and_grants_at_once_and_is_one_entry(desk):
    desk.grant(CHAT)
    actions.revoke(connection=desk.connection, by=desk.owner)
    with pytest.raises(AlreadyRevoked):
        actions.revoke(connection=desk.connection, by=desk.owner)

    desk.connection.refresh_from_db()
    assert desk.connection.state == "revoked"
    assert not Credential.objects.get(pk=desk.connection.credential_id).is_live
    assert not Grant.objects.live().filter(connection=desk.connection.pk).exists()
    assert actions_of(desk, desk.connection).count("integrations.connection.revoked") == 1


def test_a_test_under_way_does_not_bring_a_revoked_connection_back(desk):
    stale = Connection.objects.get(pk=desk.connection.pk)
    actions.revoke(connection=desk.connection, by=desk.owner)

    actions.run_test(connection=stale)

    desk.connection.refresh_from_db()
    assert desk.connection.state == "revoked"


def test_once_its_maker_has_left_a_connection_is_tested_in_the_installations_name(desk):
    connection = post(desk)
    desk.team.memberships.filter(user=desk.owner).delete()

    actions.run_test(connection=connection)

    connection.refresh_from_db()
    event = Event.objects.filter(team_id=desk.team.pk, action="call.finished").latest("at")
    assert (connection.state, event.actor_kind, event.actor_name) == ("ready", "system", "reach test")


def test_a_test_that_lost_its_worker_is_closed_by_the_next_one(desk):
    lost = Call.objects.filter(team=desk.team).latest("id")
    Call.objects.filter(pk=lost.pk).update(state=Call.State.SENT, finished_at=None, credits=None)

    actions.run_test(connection=desk.connection)

    assert Call.objects.get(pk=lost.pk).state == Call.State.UNKNOWN
    desk.connection.refresh_from_db()
    assert desk.connection.state == "ready"
