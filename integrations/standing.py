"""
How a caller stands at the moment of a call: rights, grant, policies and caps, read in one statement.

Asked of the rows at every call and remembered nowhere, so that what is taken away is gone at once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection as database
from pydantic import BaseModel

from accounts.models import Team
from accounts.permissions import Permission, allows
from integrations import scopes
from integrations.bookkeeping import Caller
from integrations.caps import DEMANDS, Demand, read_demands
from integrations.models import Connection
from integrations.policy import Rules, read_rules
from integrations.registry import Tool
from integrations.remembering import remember_short
from integrations.scopes import Ask, BadScopes, Rule, Scopes, Step, Verdict
from integrations.strict_json import load_object


class NotAllowed(Exception):
    """
    The member or the persona may not make this call; the message says what would allow it.

    `steps` is the rule path that led there.
    """

    def __init__(self, message: str, steps: Sequence[Step] = ()) -> None:
        super().__init__(message)
        self.steps = tuple(steps)


# One statement for all: it runs before every call. A persona's own grant comes before the one that
# lends the connection to its flow.
STANDING = f"""
SELECT connection.state, member.role, person.is_active, live.id, live.holder, live.scopes::text, app_now(),
       (SELECT jsonb_object_agg(policy.holder, policy.rules)::text FROM integrations_policy policy
         WHERE policy.team_id = %(team)s AND policy.holder IN (%(team)s, %(persona)s, %(flow)s)),
       {DEMANDS}::text
  FROM integrations_connection connection
  LEFT JOIN accounts_membership member
         ON member.team_id = connection.team_id AND member.user_id = %(user)s
  LEFT JOIN accounts_user person ON person.id = member.user_id
  LEFT JOIN LATERAL (
        SELECT own.id, own.holder, own.scopes FROM vault_grant own
         WHERE own.team_id = connection.team_id AND own.connection = connection.id AND own.revoked_at IS NULL
           AND own.holder IN (%(persona)s, %(flow)s)
         ORDER BY own.holder = %(persona)s DESC LIMIT 1) live ON true
 WHERE connection.id = %(connection)s AND connection.team_id = %(team)s
"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What the rows say of one caller and one connection, at `now` by the database's clock.

    `holder` is the persona or the flow whose grant counts. `unreadable` says why a grant cannot be read.
    `policies` limit how models are reached, each with its name in a sentence; `demands` are the caps that count.
    """

    state: str
    role: str | None
    is_active: bool | None
    grant_id: UUID | None
    holder: UUID | None
    scopes: Scopes | None
    unreadable: str
    now: datetime
    policies: tuple[tuple[str, Rules], ...] = ()
    demands: tuple[Demand, ...] = ()


def look_up(*, team: Team, connection: Connection, caller: Caller) -> Standing:
    """Return how a caller stands towards a connection. Raises NotAllowed when the team has no such connection."""
    asked = {
        "team": team.pk,
        "connection": connection.pk,
        "user": caller.user.pk if caller.user else None,
        "persona": caller.persona_id,
        "flow": caller.flow_id,
        "run": caller.run_id,
    }
    with database.cursor() as cursor:
        cursor.execute(STANDING, asked)
        row = cursor.fetchone()
    if row is None:
        raise NotAllowed(f"{team.name} has no such connection. Choose another one.")
    state, role, is_active, grant_id, holder, grant, now, policies, demands = row
    granted, unreadable = read_grant(grant) if grant else (None, "")
    sources = _policies(policies, team, caller) if policies else ()
    return Standing(state, role, is_active, grant_id, holder, granted, unreadable, now, sources, read_demands(demands))


def _policies(text: str, team: Team, caller: Caller) -> tuple[tuple[str, Rules], ...]:
    """The policies that count, the team's first."""
    kept = _read_policies(text)
    names = {
        team.pk: "the team's floor",
        caller.persona_id: f"the policy of {caller.persona_name}",
        caller.flow_id: "the flow's policy",
    }
    return tuple((name, kept[str(holder)]) for holder, name in names.items() if str(holder) in kept)


@remember_short
def _read_policies(text: str) -> Mapping[str, Rules]:
    """Rules by their holder. Raises PolicyRefuses for what cannot be read: it limits all the same."""
    return {holder: read_rules(rules) for holder, rules in json.loads(text).items()}


@remember_short
def read_grant(text: str) -> tuple[Scopes | None, str]:
    """Return the scopes that a grant keeps as JSON, or why they cannot be read. Remembered by their text."""
    try:
        return scopes.read_scopes(load_object(text)), ""
    except BadScopes as error:
        return None, f"The grant cannot be read: {error}. Set it anew under Scopes."


# --- who may ----------------------------------------------------------------------------


def authorise(
    standing: Standing,
    *,
    team: Team,
    connection: Connection,
    tool: Tool,
    caller: Caller,
    arguments: BaseModel | None,
    models: Sequence[str] = (),
) -> Verdict:
    """
    Say that a call may be made, at once or after asking, with the path of rules that decided.

    `models` are those that may be asked beside the ones in the arguments. Raises NotAllowed.
    """
    path = tuple(_member_steps(standing, team, tool, caller)) + tuple(_connection_steps(standing, connection))
    _stop_at_first(path)
    if caller.persona_id is None:
        return Verdict(Rule.ALLOWED, "", path)
    verdict = _by_grant(standing, connection, tool, caller, arguments, models)
    path += verdict.steps
    if verdict.rule is Rule.OFF:
        raise NotAllowed(_in_words(verdict, connection, tool, caller), path)
    return Verdict(verdict.rule, verdict.message, path)


def _stop_at_first(path: Sequence[Step]) -> None:
    for place, step in enumerate(path, start=1):
        if not step.holds:
            raise NotAllowed(step.words, path[:place])


def _member_steps(standing: Standing, team: Team, tool: Tool, caller: Caller) -> Iterator[Step]:
    if caller.user is None:
        yield Step("member", tool.hints.read_only, _installation(tool))
        return
    name, role = caller.user.email, standing.role
    if role is None:
        yield Step("member", False, f"{name} is no longer a member of {team.name}.")
    elif not standing.is_active:
        yield Step("member", False, f"The account of {name} was closed. Start it as somebody else.")
    elif not allows(role, Permission.TOOL_RUN):
        yield Step("role", False, f"The role {role} may not run tools. An owner or admin can change it.")
    else:
        yield Step("role", True, f"The role {role} may run tools.")


def _installation(tool: Tool) -> str:
    if tool.hints.read_only:
        return "The installation itself may look things up."
    return f"{tool.title} is done for people only."


def _connection_steps(standing: Standing, connection: Connection) -> Iterator[Step]:
    if standing.state == Connection.State.REVOKED:
        yield Step("connection", False, f"The connection {connection.label} was revoked. Choose another one.")
    else:
        yield Step("connection", True, f"The connection {connection.label} is live.")


def _by_grant(
    standing: Standing,
    connection: Connection,
    tool: Tool,
    caller: Caller,
    arguments: BaseModel | None,
    models: Sequence[str],
) -> Verdict:
    if standing.unreadable:
        step = Step("grant_text", False, standing.unreadable)
        return Verdict(Rule.OFF, step.words, (step,))
    ask = Ask(tool, arguments, caller.unattended, standing.now, caller.run_id, models, caller.untrusted)
    return scopes.decide(standing.scopes, ask)


# What names the persona says more than the bare rule.
WORDS = {
    "grant": "{persona} has no grant for {connection}. Enable it on the persona's page.",
    "tool": "{tool} is off for {persona}. Allow it on the persona's page.",
}


def _in_words(verdict: Verdict, connection: Connection, tool: Tool, caller: Caller) -> str:
    failed = next(step for step in verdict.steps if not step.holds)
    if failed.rule not in WORDS:
        return verdict.message
    return WORDS[failed.rule].format(persona=caller.persona_name, connection=connection.label, tool=tool.title)
