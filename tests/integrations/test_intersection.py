"""A run acts with what its person, its connection, its persona's grant and an approval all allow, and with no more."""

from collections.abc import Callable
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from accounts.models import Membership, User
from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from integrations import actions, deciding
from integrations.approvals import NeedsApproval, NotApproved
from integrations.calls import Caller, call_tool
from integrations.models import Call, Connection
from integrations.scopes import read_scopes
from integrations.standing import NotAllowed
from tests.factories import make_member
from tests.integrations.desk import CHAT as TOOL
from tests.integrations.desk import MODEL, QUESTION, Desk
from tests.integrations.questions import asked

pytestmark = pytest.mark.django_db

OTHER = QUESTION | {"temperature": 1.5}


def demote(person: User) -> None:
    Membership.objects.filter(user=person).update(role=Role.AUDITOR)


def remove(person: User) -> None:
    Membership.objects.filter(user=person).delete()


def close(person: User) -> None:
    User.objects.filter(pk=person.pk).update(is_active=False)


PEOPLE: dict[str, Callable[[User], Any]] = {
    "member": lambda person: None,
    "auditor": demote,
    "removed": remove,
    "closed": close,
}
CONNECTIONS = ["live", "revoked"]
ASK = {"tools": {TOOL: "ask"}}
GRANTS: dict[str, dict | None] = {
    "allowed": {"tools": {TOOL: "allowed"}},
    "ask": ASK,
    "off": {"tools": {TOOL: "off"}},
    "another tool": {"tools": {"list_providers": "allowed"}},
    "another model": {"tools": {TOOL: "allowed"}, "models": {"allow": ["openai/*"]}},
    "nobody's schedule": {"tools": {TOOL: {"rule": "allowed", "unattended": False}}},
    "ended": {"tools": {TOOL: "allowed"}, "ends_at": "2020-01-01T00:00:00Z"},
    "none": None,
}
APPROVALS = ["none", "given", "refused", "for another call"]
# Of all combinations, those that may call; an approval that says no is a no, even where nobody need ask.
MAY = {
    ("member", "live", "allowed", "none"),
    ("member", "live", "allowed", "given"),
    ("member", "live", "ask", "given"),
}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


def lend(desk: Desk, connection: Connection, holder: UUID, data: dict | None) -> None:
    if data is None:
        actions.disable_for(connection=connection, persona_id=holder, by=desk.owner)
    else:
        actions.set_scopes(connection=connection, holder=holder, scopes=read_scopes(data), by=desk.owner, name="Writer")


def approval_of(desk: Desk, kind: str, ask: Callable[..., None]) -> UUID | None:
    """Have a person answer what the run would be asked about."""
    if kind == "none":
        return None
    with pytest.raises(NeedsApproval) as needed:
        ask(OTHER if kind == "for another call" else QUESTION)
    approval = asked(needed.value.question)
    verdict = "refused" if kind == "refused" else "once"
    deciding.decide(approval=approval, verdict=verdict, by=desk.owner, at=app_now())
    return approval.pk


@pytest.mark.requirement("AUTHZ-7")
@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("state", CONNECTIONS)
def test_a_schedules_call_is_made_only_where_person_connection_grant_and_approval_all_allow_it(desk, person, state):
    member = make_member(desk.team)
    connections = {grant: desk.connect(desk.key, label=f"Key {place}") for place, grant in enumerate(GRANTS)}
    ready = []
    for grant, approval in product(GRANTS, APPROVALS):
        connection, persona = connections[grant], uuid7()
        caller = Caller(
            member,
            desk.caller().actor,
            persona_id=persona,
            persona_name="Writer",
            run_id=uuid7(),
            stage_id=uuid7(),
            unattended=True,
        )

        def ask(arguments=QUESTION, approval_id=None, *, connection=connection, caller=caller) -> None:
            call_tool(
                team=desk.team,
                connection=connection,
                tool=TOOL,
                arguments=arguments,
                caller=caller,
                chain=[MODEL],
                approval_id=approval_id,
            )

        lend(desk, connection, persona, ASK)
        ready.append((grant, approval, ask, approval_of(desk, approval, ask)))
        lend(desk, connection, persona, GRANTS[grant])
    PEOPLE[person](member)
    for connection in connections.values() if state == "revoked" else ():
        actions.revoke(connection=connection, by=desk.owner)
    before = Call.objects.count()

    made = set()
    for grant, approval, ask, approval_id in ready:
        try:
            ask(QUESTION, approval_id)
            made.add((person, state, grant, approval))
        except (NotAllowed, NotApproved, NeedsApproval):
            pass

    assert made == {case for case in MAY if case[:2] == (person, state)}
    assert Call.objects.count() == before + len(made)
    assert desk.account.reserved == 0
