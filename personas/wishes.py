"""
What a persona was made for and is not lent yet: tools, by integration, without a connection.

A template, an import and a copy bring wishes; a member chooses the connections that grant them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from accounts.models import Team, User
from audit.clock import app_now
from integrations import actions as integrations
from integrations import lending
from integrations.models import Connection
from integrations.registry import UnknownTool, get_tool
from integrations.scope_words import describe
from integrations.scopes import Rule, Scopes, ToolScope
from personas.drafting import locked, tell
from personas.models import Persona
from vault.models import Grant

RULES = (Rule.ALLOWED, Rule.ASK)


@dataclass(frozen=True, slots=True)
class Wish:
    """One tool, and whether it is to ask first."""

    integration: str
    tool: str
    rule: str = Rule.ALLOWED.value

    @property
    def title(self) -> str:
        return get_tool(self.integration, self.tool).title


def is_known(wish: Wish) -> bool:
    """Whether there is such a tool here and such a rule."""
    try:
        get_tool(wish.integration, wish.tool)
    except UnknownTool:
        return False
    return wish.rule in {rule.value for rule in RULES}


def read(rows: Iterable[Mapping[str, Any]]) -> list[Wish]:
    """Read what a persona keeps. A tool that is gone meanwhile is left out."""
    return [wish for wish in (Wish(**row) for row in rows) if is_known(wish)]


def written(wishes: Iterable[Wish]) -> list[dict[str, str]]:
    """Return wishes as a persona keeps them."""
    return [asdict(wish) for wish in wishes]


def granted(*, team: Team, persona: Persona) -> list[Wish]:
    """Return what a persona is lent and what it still wants, as wishes: which connections lend it stays here."""
    connections = {row.pk: row for row in team.connections.live()}
    found: dict[tuple[str, str], Wish] = {(wish.integration, wish.tool): wish for wish in read(persona.wants)}
    for grant in Grant.objects.live().filter(team=team, holder=persona.pk, connection__in=connections):
        scopes = lending.read_or_none(grant.scopes) or Scopes()
        slug = connections[grant.connection].integration
        for tool, said in scopes.tools.items():
            if said.rule is not Rule.OFF:
                found[slug, tool] = Wish(slug, tool, said.rule.value)
    return [wish for _, wish in sorted(found.items()) if is_known(wish)]


# --- lending what is wished for -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """A connection that can lend what is wished for, and what that would change, in sentences."""

    connection: Connection
    sentences: list[str]


def offers(*, team: Team, wishes: list[Wish], name: str, persona: Persona | None = None) -> list[Offer]:
    """Return the team's connections that can lend any of these tools to a persona called `name`."""
    kept = _kept(team, persona)
    able = [row for row in team.connections.live().order_by("created_at") if _of(wishes, row)]
    return [Offer(row, _sentences(row, kept.get(row.pk), wishes, name)) for row in able]


def _kept(team: Team, persona: Persona | None) -> dict[Any, Scopes | None]:
    if persona is None:
        return {}
    grants = Grant.objects.live().filter(team=team, holder=persona.pk)
    return {grant.connection: lending.read_or_none(grant.scopes) for grant in grants}


def _of(wishes: Iterable[Wish], connection: Connection) -> list[Wish]:
    return [wish for wish in wishes if wish.integration == connection.integration]


def _sentences(connection: Connection, before: Scopes | None, wishes: list[Wish], name: str) -> list[str]:
    after = _with(before, _of(wishes, connection))
    return describe(before, after, name=name, titles=lending.titles(connection.provider))


def _with(before: Scopes | None, wishes: Iterable[Wish]) -> Scopes:
    """Scopes that allow what is wished for too. What is on already stays as it is."""
    before = before or Scopes()
    wanted = {wish.tool: ToolScope(rule=Rule(wish.rule)) for wish in wishes if before.rule_of(wish.tool) is Rule.OFF}
    return before.model_copy(update={"tools": before.tools | wanted})


@transaction.atomic
def lend(*, persona: Persona, connection: Connection, by: User) -> list[Wish]:
    """
    Lend a persona what it wishes of this connection, and return that.

    Raises IsArchived, ScopesChanged and BadScopes.
    """
    persona = locked(persona)
    wishes = read(persona.wants)
    met = _of(wishes, connection)
    if met:
        _grant(persona, connection, met, by)
        _keep(persona, [wish for wish in wishes if wish not in met])
    return met


def _grant(persona: Persona, connection: Connection, wishes: list[Wish], by: User) -> None:
    grant = Grant.objects.live().filter(team=persona.team, holder=persona.pk, connection=connection.pk).first()
    kept = grant.scopes if grant else None
    after = _with(lending.read_or_none(kept), wishes)
    integrations.set_scopes(
        connection=connection,
        holder=persona.pk,
        name=persona.name,
        scopes=after,
        by=by,
        seen=lending.fingerprint(kept),
    )


@transaction.atomic
def forget(*, persona: Persona, by: User) -> None:
    """Let a persona do without what it wishes for. Raises IsArchived."""
    persona = locked(persona)
    if persona.wants:
        _keep(persona, [])
        tell("wishes_dropped", persona, by, app_now())


def _keep(persona: Persona, wishes: list[Wish]) -> None:
    persona.wants = written(wishes)
    persona.save(update_fields=["wants"])
