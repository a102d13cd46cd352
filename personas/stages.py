"""What a stage says it does: the JSON of a flow version, checked."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from personas import chains, template

INPUTS = {"input.time", "input.flow"}
MAX_STAGES = 20
MAX_TEMPLATE = 100_000

Entry = Annotated[str, Field(max_length=200, pattern=chains.ENTRY.replace(r"\Z", r"$"))]


class Stage(BaseModel):
    """What every stage has: a name that later stages refer to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]

    def texts(self) -> list[str]:
        """The texts in which references may stand."""
        return []


class PromptStage(Stage):
    """Ask one of a persona's models, or of a chain of its own. Without a chain and a rule, as the persona does."""

    kind: Literal["prompt"] = "prompt"
    persona: str
    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE)]
    chain: Annotated[list[Entry], Field(max_length=chains.MOST_MODELS)] = []
    routing: Literal["", "order", "cheapest", "fastest", "largest", "choose"] = ""

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

    def texts(self) -> list[str]:
        return [self.template]


class ToolStage(Stage):
    """Run one tool as a persona. Text arguments may refer to earlier outputs."""

    kind: Literal["tool"] = "tool"
    persona: str
    tool: Annotated[str, Field(max_length=80)]
    arguments: dict[str, Any] = {}

    def texts(self) -> list[str]:
        return list(_strings(self.arguments))


class CombineStage(Stage):
    """Put earlier outputs together in one text, without a model."""

    kind: Literal["combine"] = "combine"
    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE)]

    def texts(self) -> list[str]:
        return [self.template]


AnyStage = Annotated[PromptStage | ToolStage | CombineStage, Field(discriminator="kind")]
# Errors keep what was given to themselves: it may be a prompt, and an error may reach a log.
STAGE: TypeAdapter[AnyStage] = TypeAdapter(AnyStage, config=ConfigDict(hide_input_in_errors=True))


class BadStage(Exception):
    """A stage cannot be used; `number` counts from 1 and the message says what to change."""

    def __init__(self, number: int, message: str):
        self.number = number
        super().__init__(f"Stage {number}: {message}")


def read_stage(data: Any) -> PromptStage | ToolStage | CombineStage:
    """Read one stored stage."""
    return STAGE.validate_python(data)


def read_stages(data: Sequence[Any]) -> list[PromptStage | ToolStage | CombineStage]:
    """
    Check the stages of a flow, in order, and return them.

    Raises BadStage for the first that is wrong by itself, reuses a name, or refers to
    something that no earlier stage gives.
    """
    if not data:
        raise BadStage(1, "a flow needs at least one stage.")
    if len(data) > MAX_STAGES:
        raise BadStage(MAX_STAGES + 1, f"a flow has at most {MAX_STAGES} stages.")
    stages, known = [], set(INPUTS)
    for number, item in enumerate(data, start=1):
        stage = _checked(number, item, known)
        stages.append(stage)
        known.add(f"stage.{stage.name}.output")
    return stages


def _checked(number: int, item: Any, known: set[str]) -> PromptStage | ToolStage | CombineStage:
    try:
        stage = read_stage(item)
        for text in stage.texts():
            template.check(text, known)
    except ValidationError as error:
        raise BadStage(number, _first_problem(error)) from None
    except template.BadReference as error:
        raise BadStage(number, str(error)) from None
    if f"stage.{stage.name}.output" in known:
        raise BadStage(number, f"the name “{stage.name}” is taken by an earlier stage. Choose another one.")
    return stage


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in problem["loc"] if part not in ("prompt", "tool", "combine")) or "kind"
    return f"{field}: {problem['msg'][0].lower()}{problem['msg'][1:]}."


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
