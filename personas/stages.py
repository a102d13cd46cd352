"""What a stage says it does: the JSON of a flow version, checked."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from personas import chains, output_schema, template

OWN_INPUTS = ("time", "flow")  # every run has them; what else it is given, its version declares
INPUTS = {f"input.{name}" for name in OWN_INPUTS}
MAX_STAGES = 20
MAX_INPUTS = 20
MAX_INPUT = 100_000  # characters of one that a run is given
MAX_TEMPLATE = 100_000
MOST_ITEMS = 100
MOST_AT_ONCE = 8
KINDS = ("prompt", "tool", "combine", "approve", "each")
NEEDS_VALUE = ("contains", "above", "below")

Entry = Annotated[str, Field(max_length=200, pattern=chains.ENTRY.replace(r"\Z", r"$"))]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Template = Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE)]


class _Read(BaseModel):
    # Errors keep what was given to themselves: it may be a prompt, and an error may reach a log.
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True, hide_input_in_errors=True)


# --- what every stage has ---------------------------------------------------------------


class When(_Read):
    """What must be so for a stage to be done. `failed` makes it the branch for an error of that stage."""

    stage: Name
    test: Literal["equals", "contains", "above", "below", "failed", "done"] = Field(alias="is")
    value: Annotated[str, Field(max_length=2_000)] = ""

    @model_validator(mode="after")
    def check_value(self) -> Self:
        if self.test in NEEDS_VALUE and not self.value.strip():
            raise PydanticCustomError("value", "say what its output is held against")
        if self.test in ("above", "below") and as_number(self.value) is None:
            raise PydanticCustomError("value", "write a number, such as 0.8")
        return self


class Stage(_Read):
    """
    What every stage has: a name that later stages refer to, when it is done, and its bounds.

    `retries` is how often it is tried again, `timeout` in seconds with all its tries, `most_usd` what its
    calls may cost together in US dollars.
    """

    name: Name
    when: When | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 0
    timeout: Annotated[int, Field(ge=10, le=3600)] | None = None
    most_usd: Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$")] | None = None

    @field_validator("most_usd")
    @classmethod
    def check_most_usd(cls, value: str | None) -> str | None:
        if value is not None and not Decimal(value):
            raise PydanticCustomError("most_usd", "write more than nothing, or leave it empty")
        return value

    def fields(self) -> list[tuple[str, str]]:
        """The texts in which references may stand, each with the name of its field."""
        return []

    def texts(self) -> list[str]:
        """The texts in which references may stand."""
        return [text for _, text in self.fields()]


# --- what is done -----------------------------------------------------------------------


class Prompt(_Read):
    """Ask one of a persona's models, or of a chain of its own. Without a chain and a rule, as the persona does."""

    kind: Literal["prompt"] = "prompt"
    persona: str
    template: Template
    chain: Annotated[list[Entry], Field(max_length=chains.MOST_MODELS)] = []
    routing: Literal["", "order", "cheapest", "fastest", "largest", "choose"] = ""
    output_schema: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def read_old_fields(cls, data: Any) -> Any:
        """Read what versions of before chains kept."""
        return chains.with_chain(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def check_chain(self) -> Self:
        problem = chains.problem_of(self.chain, self.routing or chains.Routing.ORDER)
        if problem:
            raise PydanticCustomError("chain", "{problem}", {"problem": problem})
        return self

    @field_validator("output_schema")
    @classmethod
    def check_output_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        problem = output_schema.problem_of_schema(value) if value is not None else ""
        if not problem and value is not None and len(json.dumps(value)) > output_schema.MOST_SCHEMA:
            problem = f"A schema has at most {output_schema.MOST_SCHEMA:,} characters."
        if problem:
            raise PydanticCustomError("output_schema", "{problem}", {"problem": problem})
        return value

    def fields(self) -> list[tuple[str, str]]:
        return [("template", self.template)]


class ToolUse(_Read):
    """Run one tool as a persona. Text arguments may hold references."""

    kind: Literal["tool"] = "tool"
    persona: str
    tool: Annotated[str, Field(max_length=80)]
    arguments: dict[str, Any] = {}

    def fields(self) -> list[tuple[str, str]]:
        return [("arguments", text) for text in _strings(self.arguments)]


Work = Prompt | ToolUse


class PromptStage(Prompt, Stage):
    """A prompt as a stage."""


class ToolStage(ToolUse, Stage):
    """A tool as a stage."""


class CombineStage(Stage):
    """Put earlier outputs together in one text, without a model."""

    kind: Literal["combine"] = "combine"
    template: Template

    def fields(self) -> list[tuple[str, str]]:
        return [("template", self.template)]


class ApproveStage(Stage):
    """Show a text to a person, and wait until somebody decides. Its output is their note, or “approved”."""

    kind: Literal["approve"] = "approve"
    text: Template

    def fields(self) -> list[tuple[str, str]]:
        return [("text", self.text)]


class EachStage(Stage):
    """
    Do one thing for each item of a list, `at_once` of them together. In `do`, {{ item }} is the item.

    `over` gives a JSON list, or lines. Its output is the JSON list of what came of the items, in order.
    """

    kind: Literal["each"] = "each"
    over: Template
    most: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 20
    at_once: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 4
    do: Annotated[Prompt | ToolUse, Field(discriminator="kind")]

    @property
    def persona(self) -> str:
        """The persona that does it."""
        return self.do.persona

    def fields(self) -> list[tuple[str, str]]:
        return [("over", self.over)]


AnyStage = PromptStage | ToolStage | CombineStage | ApproveStage | EachStage
Tagged = Annotated[AnyStage, Field(discriminator="kind")]
STAGE: TypeAdapter[AnyStage] = TypeAdapter(Tagged, config=ConfigDict(hide_input_in_errors=True))
WORK: TypeAdapter[Work] = TypeAdapter(
    Annotated[Work, Field(discriminator="kind")], config=ConfigDict(hide_input_in_errors=True)
)


# --- what a run is given ----------------------------------------------------------------


class Input(_Read):
    """A text that a run may be given; templates refer to it as {{ input.NAME }}."""

    name: Name
    about: Annotated[str, Field(max_length=200)] = ""
    default: Annotated[str, Field(max_length=MAX_INPUT)] = ""


class BadInput(Exception):
    """An input cannot be used; the message says which, and what to change."""


def read_inputs(data: Sequence[Any]) -> list[Input]:
    """Check the inputs that a flow declares. Raises BadInput for the first that is wrong."""
    if len(data) > MAX_INPUTS:
        raise BadInput(f"A flow has at most {MAX_INPUTS} inputs.")
    found: list[Input] = []
    for number, item in enumerate(data, start=1):
        try:
            read = Input.model_validate(item)
        except ValidationError as error:
            field, problem = _first_problem(error)
            raise BadInput(f"Input {number}: {field}: {problem}") from None
        if read.name in (*OWN_INPUTS, *(other.name for other in found)):
            raise BadInput(f"Input {number}: the name “{read.name}” is taken. Choose another one.")
        found.append(read)
    return found


def given_inputs(declared: Sequence[Any], given: Mapping[str, str]) -> dict[str, str]:
    """
    Return the value of every declared input: what was given, or its default.

    Raises BadInput for one that nobody declared, or that is too long.
    """
    known = {each.name: each.default for each in read_inputs(declared)}
    for name, value in given.items():
        if name not in known:
            usable = ", ".join(sorted(known)) or "none"
            raise BadInput(f"This flow has no input “{name[:60]}”. It has: {usable}.")
        if len(value) > MAX_INPUT:
            raise BadInput(f"The input “{name}” is longer than {MAX_INPUT:,} characters.")
    return known | dict(given)


# --- reading ----------------------------------------------------------------------------


class BadStage(Exception):
    """A stage cannot be used; `number` counts from 1, `field` is what to change, and the message says how."""

    def __init__(self, number: int, message: str, field: str = ""):
        self.number, self.field = number, field
        super().__init__(f"Stage {number}: {message}")


def read_stage(data: Any) -> AnyStage:
    """Read one stored stage."""
    return STAGE.validate_python(data)


def work_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a stored stage that a persona does: itself, or what a list does for each item."""
    return spec.get("do") or spec


def read_work(data: Any) -> Work:
    """Read what is done for each item of a list, as it is stored."""
    return WORK.validate_python(data)


def read_stages(data: Sequence[Any], inputs: Sequence[Any] = ()) -> list[AnyStage]:
    """
    Check the stages of a flow, in order, and return them. `inputs` are those that the flow declares.

    Raises BadStage for the first that is wrong by itself, reuses a name, or refers to something that
    no earlier stage gives and no input is; BadInput for a wrong input.
    """
    if not data:
        raise BadStage(1, "a flow needs at least one stage.")
    if len(data) > MAX_STAGES:
        raise BadStage(MAX_STAGES + 1, f"a flow has at most {MAX_STAGES} stages.")
    stages, known = [], INPUTS | {f"input.{each.name}" for each in read_inputs(inputs)}
    for number, item in enumerate(data, start=1):
        stage = _checked(number, item, known)
        stages.append(stage)
        known.add(output_of(stage.name))
    return stages


def output_of(name: str) -> str:
    """The reference to what a stage gives."""
    return f"stage.{name}.output"


def _checked(number: int, item: Any, known: set[str]) -> AnyStage:
    try:
        stage = read_stage(item)
    except ValidationError as error:
        field, problem = _first_problem(error)
        raise BadStage(number, f"{field}: {problem}", field) from None
    _check_references(number, stage, known)
    if output_of(stage.name) in known:
        raise BadStage(number, f"the name “{stage.name}” is taken by an earlier stage. Choose another one.", "name")
    if stage.when and output_of(stage.when.stage) not in known:
        raise BadStage(number, f"when: no earlier stage is named “{stage.when.stage}”.", "when.stage")
    return stage


def _check_references(number: int, stage: AnyStage, known: set[str]) -> None:
    inner = stage.do.fields() if isinstance(stage, EachStage) else []
    places = [(field, text, known) for field, text in stage.fields()]
    places += [(f"do.{field}", text, known | {template.ITEM}) for field, text in inner]
    for field, text, usable in places:
        try:
            template.check(text, usable)
        except template.BadReference as error:
            raise BadStage(number, f"{field}: {error}", field) from None


def _first_problem(error: ValidationError) -> tuple[str, str]:
    """Which field is wrong, and what is wrong with it. The kinds in its path are no fields."""
    problem = error.errors(include_url=False, include_input=False)[0]
    path = problem["loc"]
    is_tag = [part in KINDS and (place == 0 or path[place - 1] == "do") for place, part in enumerate(path)]
    field = ".".join(str(part) for part, tag in zip(path, is_tag, strict=True) if not tag) or "kind"
    words = problem["msg"]
    return field, f"{words[0].lower()}{words[1:].removesuffix('.')}."


def as_number(text: str) -> Decimal | None:
    """The number that a text is, or None."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _strings(item)]
        case list():
            return [text for item in value for text in _strings(item)]
        case _:
            return []


def fill(value: Any, values: dict[str, str]) -> Any:
    """Fill the references in every text of an argument, however deep it lies. Raises BadReference."""
    template.check_length(_strings(value), values)
    return _fill(value, values)


def _fill(value: Any, values: dict[str, str]) -> Any:
    match value:
        case str():
            return template.render(value, values)
        case dict():
            return {name: _fill(item, values) for name, item in value.items()}
        case list():
            return [_fill(item, values) for item in value]
        case _:
            return value
