"""
A persona as one JSON file: what it says and which tools it is made for. No secrets, no ids of a team.

Reading takes nothing on trust: unknown fields, wrong types and anything over its bounds is refused,
with the place in the file.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import transaction
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from accounts.models import Team, User
from audit.clock import app_now
from integrations.invalid import explain, refuse
from integrations.strict_json import NotPlainJson, load_object
from personas import actions, chains, drafting, wishes
from personas.models import Persona, PersonaVersion
from personas.output_schema import MOST_SCHEMA, problem_of_schema
from personas.plain_text import problem_of_line, problem_of_text

FORMAT = "definable.persona"
FORMAT_VERSION = 1
MOST_BYTES = 1024 * 1024
MOST_TOOLS = 100


class NotAPersona(ValueError):
    """The file cannot be imported; the message names the place and what to do."""


# --- the file -----------------------------------------------------------------------------


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value)) > MOST_SCHEMA:
        raise refuse(f"The schema may have up to {MOST_SCHEMA:,} characters.", "")
    if problem := problem_of_schema(value):
        raise refuse(problem, "")
    return value


def _text(value: str) -> str:
    if problem := problem_of_text(value):
        raise refuse(problem, "")
    return value


def one_line(value: str) -> str:
    """Check a name: one line, and nothing hidden in it."""
    if problem := problem_of_line(value):
        raise refuse(problem, "")
    return value


Entry = Annotated[str, Field(max_length=200, pattern=chains.ENTRY.replace(r"\Z", "$"))]
Drawn = Annotated[Decimal, Field(strict=False, max_digits=3, decimal_places=2)]


class Strict(BaseModel):
    """Nothing unknown, nothing guessed; errors repeat no value."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Said(Strict):
    """What one version says: the fields of PersonaVersion.SAYS."""

    instructions: Annotated[str, Field(max_length=100_000), AfterValidator(_text)] = ""
    chain: Annotated[list[Entry], Field(max_length=chains.MOST_MODELS)] = []
    routing: Literal["order", "cheapest", "fastest", "largest", "choose"] = "order"
    format: Literal["chat", "messages"] = "chat"
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] = 1024
    temperature: Annotated[Drawn, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Drawn, Field(gt=0, le=1)] | None = None
    reasoning_effort: Literal["", "none", "minimal", "low", "medium", "high", "xhigh", "max"] = ""
    output_schema: Annotated[dict[str, Any], AfterValidator(_schema)] | None = None
    knows_time: bool = False
    knows_member: bool = False
    most_steps: Annotated[int, Field(ge=1, le=20)] = 8
    most_tool_calls: Annotated[int, Field(ge=0, le=20)] = 20
    most_seconds: Annotated[int, Field(ge=10, le=600)] = 300
    most_credits: Annotated[int, Field(ge=1, le=1_000_000)] = 500

    @model_validator(mode="after")
    def _chain_holds(self) -> "Said":
        if problem := chains.problem_of(self.chain, self.routing):
            raise refuse(problem, "")
        return self

    @property
    def says(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PersonaVersion.SAYS}


class WantedTool(Strict):
    """A tool that it is made for, and whether it is to ask first."""

    integration: Annotated[str, Field(max_length=40)]
    tool: Annotated[str, Field(max_length=80)]
    rule: Literal["allowed", "ask"] = "allowed"

    @model_validator(mode="after")
    def _is_known(self) -> "WantedTool":
        if not wishes.is_known(self.wish):
            raise refuse("There is no such tool here. Take it out, or update this installation.", "")
        return self

    @property
    def wish(self) -> wishes.Wish:
        return wishes.Wish(self.integration, self.tool, self.rule)


class PersonaFile(Strict):
    """The whole file."""

    format: Literal["definable.persona"]
    format_version: Literal[1]
    origin: Annotated[UUID, Field(strict=False)]
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"\S"), AfterValidator(one_line)]
    purpose: Annotated[str, Field(max_length=120), AfterValidator(one_line)] = ""
    published: Said | None = None
    draft: Said | None = None
    tools: Annotated[list[WantedTool], Field(max_length=MOST_TOOLS)] = []

    @model_validator(mode="after")
    def _says_something(self) -> "PersonaFile":
        if self.published is None and self.draft is None:
            raise refuse("The file holds neither a published version nor a draft.", "")
        return self

    @property
    def contents(self) -> list[Said]:
        """What it holds, the newest last."""
        return [said for said in (self.published, self.draft) if said]


def read_file(text: str) -> PersonaFile:
    """Read a file. Raises NotAPersona for the first thing that is wrong with it."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise NotAPersona("The file is larger than 1 MiB. A persona is far smaller; this is something else.")
    try:
        data = load_object(text)
    except NotPlainJson as error:
        raise NotAPersona(" ".join(filter(None, (str(error), error.hint)))) from None
    if data.get("format") != FORMAT:
        raise NotAPersona(f'format: This is no persona of Definable. Its first field says "{FORMAT}".')
    if data.get("format_version") != FORMAT_VERSION:
        raise NotAPersona(
            f"format_version: This installation reads version {FORMAT_VERSION}. Update it, or export anew."
        )
    try:
        return PersonaFile.model_validate(data)
    except ValidationError as error:
        raise NotAPersona(_first_problem(error, data)) from None


def _first_problem(error: ValidationError, data: dict[str, Any]) -> str:
    problem = explain(error, data, {})[0]
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


# --- export -------------------------------------------------------------------------------


@transaction.atomic
def export_persona(*, team: Team, persona: Persona, by: User) -> str:
    """Return a persona as the text of a file, and note in the log that it left."""
    tools = [
        WantedTool(integration=wish.integration, tool=wish.tool, rule=wish.rule) for wish in _wanted(team, persona)
    ]
    file = PersonaFile(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        origin=persona.origin,
        name=persona.name,
        purpose=persona.purpose,
        published=_said(persona.version),
        draft=_said(persona.draft),
        tools=tools,
    )
    drafting.tell("exported", persona, by, app_now())
    return json.dumps(file.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _wanted(team: Team, persona: Persona) -> list[wishes.Wish]:
    return wishes.granted(team=team, persona=persona)


def _said(version: PersonaVersion | None) -> Said | None:
    return Said(**version.says) if version else None


# --- import -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import: the persona, and the draft it brought. No draft: all of it was here before."""

    persona: Persona
    draft: PersonaVersion | None


@transaction.atomic
def import_persona(*, team: Team, text: str, by: User) -> Imported:
    """
    Take in a file as a draft; nothing of it is in use and nothing is lent until a member says so.

    A file that came before changes the persona it made then. Raises NotAPersona, and IsArchived when
    that persona is archived.
    """
    file = read_file(text)
    now = app_now()
    # Two tabs with one file: the second finds what the first made.
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    known = team.personas.filter(origin=file.origin).first()
    return _update(known, file, by, now) if known else _make(team, file, by, now)


def _make(team: Team, file: PersonaFile, by: User, at: datetime) -> Imported:
    wanted = wishes.written(dict.fromkeys(tool.wish for tool in file.tools))
    persona = actions.new_persona(team, file.name, file.purpose, by, at, origin=file.origin, wants=wanted)
    versions = [drafting.add_version(persona, by, at, said.says) for said in file.contents]
    persona.draft = versions[-1]
    persona.save(update_fields=["draft"])
    drafting.tell("imported", persona, by, at, version=persona.draft.number)
    return Imported(persona, persona.draft)


def _update(persona: Persona, file: PersonaFile, by: User, at: datetime) -> Imported:
    persona = drafting.locked(persona)
    says, now = file.contents[-1].says, persona.draft or persona.version
    if now.says == says:
        return Imported(persona, None)
    persona.draft = drafting.add_version(persona, by, at, says)
    persona.wants = _still_wanted(persona, file)
    persona.save(update_fields=["draft", "wants"])
    drafting.tell("imported", persona, by, at, version=persona.draft.number)
    return Imported(persona, persona.draft)


def _still_wanted(persona: Persona, file: PersonaFile) -> list[dict[str, str]]:
    """What it wished for before and what the file adds, but for what it is lent."""
    before = wishes.read(persona.wants)
    held = {(wish.integration, wish.tool) for wish in wishes.granted(team=persona.team, persona=persona)}
    added = [tool.wish for tool in file.tools if (tool.integration, tool.tool) not in held]
    return wishes.written(dict.fromkeys([*before, *added]))
