"""How many runs of flows may be at work at once, as members set it. `personas.fair` keeps to it."""

from django.db import transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from personas.models import Flow, TeamFlows


@transaction.atomic
def set_for_flow(*, flow: Flow, most: int | None, by: User) -> None:
    """Let no more than so many runs of a flow be at work at once; None: as many as its team may have."""
    found = Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)
    before, found.most_at_once = found.most_at_once, most
    found.save(update_fields=["most_at_once"])
    _tell("flow", flow.team, f"flow:{flow.pk}", flow.name, before, most, by)


@transaction.atomic
def set_for_team(*, team: Team, most: int | None, by: User) -> None:
    """Let no more than so many runs of a team's flows be at work at once; None: as the installation has it."""
    rows, _ = TeamFlows.objects.select_for_update().get_or_create(team=team)
    before, rows.most_at_once = rows.most_at_once, most
    rows.save(update_fields=["most_at_once"])
    _tell("flows", team, f"team:{team.pk}", team.name, before, most, by)


def _tell(what: str, team: Team, target: str, name: str, before: int | None, after: int | None, by: User) -> None:
    if before != after:
        record(
            f"personas.{what}.limited",
            team_id=team.pk,
            actor=Actor.user(by),
            target=target,
            target_name=name,
            details={"from": before, "to": after},
        )
