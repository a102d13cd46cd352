"""
A flow as one YAML file: its stages, its inputs and the names of its personas. No secrets, no ids of a team.

Reading takes nothing on trust: unknown fields, wrong types and anything over its bounds is refused, with
the line or the place in the file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import transaction
from pydantic import AfterValidator, Field, ValidationError

from accounts.models import Team, User
from audit.clock import app_now
from integrations.invalid import explain
from personas import drafting, stages, yaml_text
from personas.exchange import Strict, one_line
from personas.models import Flow, FlowVersion
from personas.slugs import free_slug

FORMAT = "definable.flow"
FORMAT_VERSION = 1
CHOOSE = ""  # stands for a persona that this team has not


class NotAFlow(ValueError):
    """The file cannot be imported; the message names the place and what to do."""


class FlowFile(Strict):
    """The whole file. `stages` and `inputs` are checked as those of the builder are."""

    format: Literal["definable.flow"]
    format_version: Literal[1]
    origin: Annotated[UUID, Field(strict=False)]
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"\S"), AfterValidator(one_line)]
    purpose: Annotated[str, Field(max_length=120), AfterValidator(one_line)] = ""
    inputs: Annotated[list[dict[str, Any]], Field(max_length=stages.MAX_INPUTS)] = []
    stages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=stages.MAX_STAGES)]


@dataclass(frozen=True, slots=True)
class Imported:
    """
    What came of an import: the flow and the draft it brought. No draft: all of it was here before.

    `unknown` are the stages whose persona this team has not.
    """

    flow: Flow
    draft: FlowVersion | None
    unknown: list[str]


# --- export -------------------------------------------------------------------------------


@transaction.atomic
def export_flow(*, flow: Flow, by: User) -> str:
    """Return the version in use, or the draft of a flow without one, as a file, and note in the log that it left."""
    version = flow.shown
    read = stages.read_stages(version.stages, version.inputs)
    names = {str(pk): name for pk, name in flow.team.personas.values_list("pk", "name")}
    drafting.tell("exported", flow, by, app_now(), version=version.number)
    return yaml_text.dump(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "origin": str(flow.origin),
            "name": flow.name,
            "purpose": flow.purpose,
            "inputs": [{name: value for name, value in each.items() if value} for each in version.inputs],
            "stages": [_written(stage, names) for stage in read],
        }
    )


def _written(stage: stages.AnyStage, names: Mapping[str, str]) -> dict[str, Any]:
    """A stage without what it leaves at its default, its persona by name."""
    said = {"kind": stage.kind, **stage.model_dump(exclude_defaults=True, by_alias=True)}
    for work in _works(said):
        work["persona"] = names.get(work["persona"], CHOOSE)
        if work is not said:
            work.setdefault("kind", stage.do.kind)
    return said


def _works(stage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a stage that name a persona: itself, or what it does for each item."""
    return (part for part in (stage, stage.get("do")) if isinstance(part, dict) and "persona" in part)


# --- import -------------------------------------------------------------------------------


def read_file(text: str) -> FlowFile:
    """Read a file. Raises NotAFlow for the first thing that is wrong with it; its stages are checked later."""
    try:
        data = yaml_text.load(text)
    except yaml_text.NotPlainYaml as error:
        raise NotAFlow(str(error)) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise NotAFlow(f"format: This is no flow of Definable. Its first line says “format: {FORMAT}”.")
    if data.get("format_version") != FORMAT_VERSION:
        raise NotAFlow(f"format_version: This installation reads version {FORMAT_VERSION}. Update it, or export anew.")
    try:
        return FlowFile.model_validate(data)
    except ValidationError as error:
        problem = explain(error, data, {})[0]
        raise NotAFlow(f"{problem.path}: {problem.message}" if problem.path else problem.message) from None


@transaction.atomic
def import_flow(*, team: Team, text: str, by: User) -> Imported:
    """
    Take in a file as a draft; nothing of it runs until a member publishes it.

    Personas are found by name. A file that came before changes the flow it made then. Raises NotAFlow, and IsArchived
    when that flow is archived.
    """
    file = read_file(text)
    says, unknown = _says(team, file)
    # Two tabs with one file: the second finds what the first made.
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    known = team.flows.filter(origin=file.origin).first()
    flow = drafting.locked(known) if known else _make(team, file, by)
    now = flow.draft or flow.version
    if now and now.says == says:
        return Imported(flow, None, unknown)
    flow.draft = drafting.add_version(flow, by, app_now(), says)
    flow.save(update_fields=["draft"])
    drafting.tell("imported", flow, by, app_now(), version=flow.draft.number)
    return Imported(flow, flow.draft, unknown)


def _says(team: Team, file: FlowFile) -> tuple[dict[str, Any], list[str]]:
    """What the file says, as a version keeps it, and the stages without a persona of this team."""
    ids = {name.casefold(): str(pk) for pk, name in team.personas.working().values_list("pk", "name")}
    unknown = []
    for stage in file.stages:
        for work in _works(stage):
            if isinstance(work["persona"], str):  # whatever else it is, is refused below
                work["persona"] = ids.get(work["persona"].casefold(), CHOOSE)
                unknown += [str(stage.get("name", ""))[:40]] if work["persona"] == CHOOSE else []
    try:
        inputs = [each.model_dump() for each in stages.read_inputs(file.inputs)]
        read = stages.read_stages(file.stages, inputs)
    except (stages.BadStage, stages.BadInput) as problem:
        raise NotAFlow(str(problem)) from None
    return {"stages": [stage.model_dump() for stage in read], "inputs": inputs}, unknown


def _make(team: Team, file: FlowFile, by: User) -> Flow:
    slug = free_slug(team, team.flows, file.name)
    named = {"slug": slug, "name": file.name, "purpose": file.purpose, "origin": file.origin}
    return Flow.objects.create(team=team, created_by=by, created_at=app_now(), **named)
