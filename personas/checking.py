"""
Holding chains against the catalog and the policies, when they are saved and once a day after.

What is wrong is kept on the persona or flow, in words, and told in the log when it changes.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from accounts.models import Team
from audit.actions import Actor, record
from integrations import catalog
from integrations.facts import Catalog, ModelFacts
from integrations.models import Policy
from integrations.patterns import matches
from integrations.policy import BadRules, Reach, Rules, merge, read_rules
from integrations.registry import integrations
from integrations.scopes import allowed_tools
from integrations.sweeping import one_by_one
from personas.chains import is_pattern, with_chain
from personas.models import Flow, FlowVersion, Persona, PersonaVersion
from personas.stages import BadStage, work_of
from vault.models import Grant

SOON = timedelta(days=14)  # before the provider withdraws a model, it is named
DAILY = timedelta(hours=20)  # a chain that was checked later than this ago is not checked again
AT_ONCE = 500  # of each kind

Refuses = Callable[[str], str]


# --- deciding ---------------------------------------------------------------------------


def problems_of(
    chain: Sequence[str], known: Catalog, *, today: date, tools: int, refuses: Refuses = lambda model: ""
) -> list[str]:
    """
    Say in sentences what is wrong with the models of a chain, and what to do; nothing without a catalog.

    `tools`: how many tools its persona may use beside asking models. `refuses` says why a policy
    keeps calls from a model, or nothing.
    """
    if not known.is_known:
        return []
    found = (_problem(entry, known, today, tools, refuses) for entry in chain)
    return [problem for problem in found if problem]


def _problem(entry: str, known: Catalog, today: date, tools: int, refuses: Refuses) -> str:
    if is_pattern(entry):
        meant = any(matches(facts.id, entry) and not facts.is_gone for facts in known.models.values())
        return "" if meant else f"{entry} describes no model of the catalog. Change it, or take it out."
    facts = known.find(entry)
    if facts is None:
        return _unknown(entry, known)
    return _gone(entry, facts, today) or _unable(entry, facts, tools) or _refused(entry, refuses)


def _unknown(model: str, known: Catalog) -> str:
    if "@preset/" in model:
        return ""  # what it reaches is decided elsewhere
    listed = [facts.id for facts in known.models.values() if not facts.is_gone]
    nearest = get_close_matches(model, listed, n=1)
    advice = f"Did you mean {nearest[0]}?" if nearest else "Choose another model."
    return f"{model} is not in the catalog. {advice}"


def _gone(model: str, facts: ModelFacts, today: date) -> str:
    if facts.is_gone:
        return f"{model} is not listed by the provider any more. Choose another model."
    if facts.expires_on and facts.expires_on <= today + SOON:
        return f"{model} is withdrawn by the provider on {facts.expires_on:%-d %B %Y}. Choose another model before."
    return ""


def _unable(model: str, facts: ModelFacts, tools: int) -> str:
    if facts.output_modalities and "text" not in facts.output_modalities:
        return f"{model} does not answer with text. Choose another model."
    if tools and "tools" not in facts.parameters:
        return f"{model} cannot call tools, and {tools} are lent. Choose another model, or take the tools away."
    return ""


def _refused(model: str, refuses: Refuses) -> str:
    why = refuses(model)
    return f"{model} is kept away by a policy. {why}" if why else ""


# --- acting -----------------------------------------------------------------------------


def check_persona(*, persona: Persona, at: datetime, actor: Actor) -> None:
    """Hold the chain that a persona has in use against the catalog and write down what is wrong with it."""
    _keep(persona, problems_of_version(persona=persona, version=persona.version, at=at), at=at, actor=actor)


def problems_of_version(*, persona: Persona, version: PersonaVersion, at: datetime) -> list[str]:
    """Say what is wrong with the models of a version, in use or not, as the catalog and the policies are now."""
    known = catalog.current()
    refuses = _policies(persona.team_id, {persona.pk: f"the policy of {persona.name}"}, known)
    return problems_of(version.chain, known, today=at.date(), tools=_lent_tools(persona), refuses=refuses)


def check_flow(*, flow: Flow, at: datetime, actor: Actor) -> None:
    """Hold the chains of a flow's own against the catalog and write down what is wrong with them."""
    _keep(flow, problems_of_flow(flow=flow, version=flow.version, at=at), at=at, actor=actor)


def check_personas(team: Team, read: Sequence[Any]) -> None:
    """Raises BadStage for the first of these stages whose persona is none that works in this team."""
    wanted = {stage.persona for stage in read if getattr(stage, "persona", "")}
    found = {str(pk) for pk in team.personas.working().filter(pk__in=wanted).values_list("pk", flat=True)}
    for number, stage in enumerate(read, start=1):
        if hasattr(stage, "persona") and stage.persona not in found:
            raise BadStage(number, "choose one of this team's personas.")


def problems_of_flow(*, flow: Flow, version: FlowVersion, at: datetime) -> list[str]:
    """Say what is wrong with the models of a flow's version, in use or not, stage by stage."""
    known, found = catalog.current(), []
    for stage in version.stages:
        work = with_chain(work_of(stage))
        chain = work.get("chain") or ()
        holders = {_uuid(work.get("persona")): "the persona's policy", flow.pk: "the flow's policy"}
        refuses = _policies(flow.team_id, holders, known) if chain else lambda model: ""
        problems = problems_of(chain, known, today=at.date(), tools=0, refuses=refuses)
        found += [f"Stage {stage['name']}: {problem}" for problem in problems]
    return found


def check_chains(*, at: datetime) -> int:
    """Check what has not been checked today, and return how many there were."""
    due = Q(checked_at=None) | Q(checked_at__lt=at - DAILY)
    personas = Persona.objects.live().filter(due, version__isnull=False).select_related("version", "team")[:AT_ONCE]
    flows = Flow.objects.filter(due, archived_at=None, version__isnull=False).select_related("version")[:AT_ONCE]
    actor = Actor.system("catalog")
    one_by_one(personas, transaction.atomic(lambda persona: check_persona(persona=persona, at=at, actor=actor)))
    one_by_one(flows, transaction.atomic(lambda flow: check_flow(flow=flow, at=at, actor=actor)))
    return len(personas) + len(flows)


def _keep(row: Persona | Flow, found: list[str], *, at: datetime, actor: Actor) -> None:
    changed = row.problems != found
    row.problems, row.checked_at = found, at
    row.save(update_fields=["problems", "checked_at"])
    if not changed:
        return
    kind = "persona" if isinstance(row, Persona) else "flow"
    record(
        f"personas.{kind}.checked",
        at=at,
        team_id=row.team_id,
        actor=actor,
        target=f"{kind}:{row.pk}",
        target_name=row.name,
        outcome="problems" if found else "fine",
        details={"problems": [problem[:300] for problem in found[:20]]},
    )


def _policies(team_id: UUID, holders: dict[UUID | None, str], known: Catalog) -> Refuses:
    """Why the policies that count keep calls from a model; what cannot be read keeps them from all."""
    names = {team_id: "the team's floor"} | holders
    rows = {row.holder: row.rules for row in Policy.objects.filter(team=team_id, holder__in=filter(None, names))}
    try:
        sources: list[tuple[str, Rules]] = [
            (names[holder], read_rules(rows[holder])) for holder in names if holder in rows
        ]
    except BadRules as error:
        words = str(error)
        return lambda model: words
    return Reach(merge(sources), known).why_not


def _lent_tools(persona: Persona) -> int:
    """How many tools beside asking models a persona may use."""
    asks_models = {tool.name for each in integrations() for tool in each.tools if tool.tokens}
    grants = Grant.objects.live().filter(team=persona.team_id, holder=persona.pk)
    return len({name for grant in grants for name in allowed_tools(grant.scopes)} - asks_models)


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None
