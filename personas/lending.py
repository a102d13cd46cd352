"""What a stage may call with: the connection that is lent to it, and in whose name it asks."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from accounts.models import Team
from audit.actions import Actor
from audit.clock import app_now
from integrations.calls import Caller
from integrations.facts import Catalog
from integrations.models import Connection
from integrations.policy import PolicyRefuses, Reach, merge
from integrations.preparing import why_no_price
from integrations.registry import Integration, Tool, UnknownTool, integration_of
from integrations.scopes import Ask, ModelPatterns, Rule, allowed_tools, decide, model_refusal, read_scopes
from integrations.standing import NotAllowed, Standing, look_up
from personas.candidates import Refuses
from personas.models import Persona, Run, StageRun
from personas.standstill import StageFailed
from vault.models import Grant


@dataclass(frozen=True, slots=True)
class Asker:
    """Who would call: a persona, in a run of a flow or not."""

    team: Team
    persona: Persona
    flow_id: UUID | None
    run_id: UUID
    is_unattended: bool

    @classmethod
    def of(cls, run: Run, stage: StageRun) -> "Asker":
        """The persona of a stage."""
        return cls(run.team, stage.persona, run.flow_id, run.pk, run.is_unattended)


def connection_for(asker: Asker, tool: str) -> Connection:
    """
    The oldest connection lent to this persona, to the integration that has the tool, whose grant lets it pass now.

    Without one, the oldest whose grant names the tool, or the oldest of all: its call says what is in the way.
    Raises StageFailed.
    """
    lent, now = _lent_to(asker), app_now()
    integration = _integration_of(tool)
    rows = asker.team.connections.live().filter(integration=integration.slug).order_by("created_at")
    granted = [row for row in rows if allowed_tools(lent.get(row.pk) or {})]
    if not granted:
        what = f"{asker.persona.name} has no connection to {integration.name}"
        raise StageFailed(f"{what}. Enable one on the persona's page.")

    def rank(connection: Connection) -> int:
        scopes = read_scopes(lent[connection.pk])
        ask = Ask(connection.provider.tool(tool), None, asker.is_unattended, now, asker.run_id)
        return 0 if decide(scopes, ask).rule is not Rule.OFF else 1 if tool in scopes.tools else 2

    return min(granted, key=rank)


def _integration_of(tool: str) -> Integration:
    try:
        return integration_of(tool)
    except UnknownTool:
        raise StageFailed(f"There is no tool called {tool} any more. Choose another one.") from None


def _lent_to(asker: Asker) -> dict[UUID, dict[str, Any]]:
    """What the grants say of each connection: the persona's own, or else its flow's."""
    grants = Grant.objects.live().filter(team=asker.team, holder__in=[asker.persona.pk, asker.flow_id])
    own_last = sorted(grants, key=lambda grant: grant.holder == asker.persona.pk)
    return {grant.connection: grant.scopes for grant in own_last}


def caller_of(run: Run, stage: StageRun, attempt: int) -> Caller:
    """Return who asks in a stage: its persona, with the rights of the run's user. `attempt` counts its tries from 1."""
    kind = "schedule" if run.by_schedule else "user"
    return Caller(
        user=run.user,
        actor=Actor(kind, str(run.user_id), run.user.email),
        persona_id=stage.persona_id,
        persona_name=stage.persona.name,
        flow_id=run.flow_id,
        run_id=run.pk,
        stage_id=stage.pk,
        attempt=attempt,
        unattended=run.is_unattended,
        keep=run.chat is None or not run.chat.temporary,
    )


def standing_of(run: Run, stage: StageRun, connection: Connection) -> Standing | None:
    """How this stage stands now, for finding candidates; None where the call itself will say what is wrong."""
    try:
        return look_up(team=run.team, connection=connection, caller=caller_of(run, stage, 0))
    except (NotAllowed, PolicyRefuses):
        return None


def limits_of(found: Standing | None, known: Catalog, tool: Tool, arguments: BaseModel | None) -> Refuses:
    """
    Why the grant, the policies or the caps keep calls of this stage from a model.

    The call path itself has the last word. A model without a price is named here, since behind another
    one it would keep that one, too, from passing under a cap.
    """
    if found is None:
        return lambda model: ""
    limits = found.scopes.models if found.scopes else ModelPatterns()
    reach = Reach(merge(found.policies), known)
    capped = arguments if found.demands else None

    def refuses(model: str) -> str:
        unpriced = why_no_price(tool, capped, model, known) if capped is not None else ""
        return model_refusal(limits, model) or reach.why_not(model) or unpriced

    return refuses
