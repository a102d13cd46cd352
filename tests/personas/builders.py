"""Personas, flows and schedules for tests, made through the product's own actions."""

from collections.abc import Sequence

from accounts.models import Team, User
from personas import actions, flow_actions, schedules
from personas.models import Flow, Persona, Schedule
from tests.factories import owner_of


def make_persona(team: Team, *, name: str = "Writer", by: User | None = None, **what) -> Persona:
    """A persona of a team with a first version."""
    given = {"instructions": "Be brief.", "chain": ["openai/gpt-5-mini"], "max_tokens": 256}
    return actions.create_persona(team=team, name=name, purpose="Writes", by=by or owner_of(team), **(given | what))


def make_flow(
    team: Team, stages: list[dict] | None = None, inputs: Sequence[dict] = (), *, name: str = "Digest"
) -> Flow:
    """A flow of one stage that needs no model, unless other stages are given."""
    stages = stages or [{"kind": "combine", "name": "all", "template": "It is {{ input.time }}"}]
    made = {"name": name, "purpose": "", "stage_list": stages, "inputs": inputs}
    return flow_actions.create_flow(team=team, by=owner_of(team), **made)


def make_schedule(flow: Flow, *, cron: str = "* * * * *", zone: str = "UTC", **more) -> Schedule:
    """A schedule that fires each minute, unless it is told otherwise."""
    given = {"catch_up": "latest", "overlap": "allow"} | more
    return schedules.set_schedule(flow=flow, cron=cron, zone=zone, by=owner_of(flow.team), **given)
