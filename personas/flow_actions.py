"""What members do with flows: make, save, publish. Each writes its event."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from accounts.models import Team, User
from audit.clock import app_now
from personas import checking, drafting, stages
from personas.models import Flow, FlowVersion
from personas.slugs import free_slug


@transaction.atomic
def create_flow(
    *,
    team: Team,
    name: str,
    purpose: str,
    stage_list: list[dict],
    by: User,
    inputs: Sequence[dict] = (),
    is_draft: bool = False,
) -> Flow:
    """Make a flow with its first version, in use at once unless it is a draft. Raises BadStage and BadInput."""
    now = app_now()
    slug = free_slug(team, team.flows, name)
    flow = Flow.objects.create(team=team, slug=slug, name=name, purpose=purpose, created_by=by, created_at=now)
    version = drafting.add_version(flow, by, now, said(team, stage_list, inputs))
    if is_draft:
        flow.draft = version
        flow.save(update_fields=["draft"])
    else:
        drafting.put_to_use(flow, version, by, now)
    drafting.tell("made", flow, by, now)
    return flow


def save_flow(
    *,
    flow: Flow,
    name: str,
    purpose: str,
    stage_list: list[dict],
    by: User,
    inputs: Sequence[dict] = (),
    seen: int | None = None,
    is_draft: bool = False,
) -> FlowVersion:
    """
    Write the flow's next version, and put it to use unless it is a draft. Running runs keep theirs.

    `seen` as in `drafting.save_draft`. Raises BadStage, BadInput, Outdated and IsArchived.
    """
    save = drafting.save_draft if is_draft else drafting.save_and_publish
    says = said(flow.team, stage_list, inputs)
    return save(of=flow, name=name, purpose=purpose, by=by, seen=seen, **says)


def said(team: Team, stage_list: list[dict], inputs: Sequence[dict]) -> dict[str, Any]:
    """What a version says, as it is kept: every field of every stage. Raises BadStage and BadInput."""
    read = stages.read_stages(stage_list, inputs)
    checking.check_personas(team, read)
    return {"stages": [stage.model_dump() for stage in read], "inputs": list(inputs)}
