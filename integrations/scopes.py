"""
What a grant's scopes say, and what they decide. `vault` keeps them; only this module reads them.

Pure: no rows, no clock. A grant lends a persona or a flow one connection. What it does not name is
off. Every restriction is looked at on its own and all must hold, so their order means nothing, and
adding one never allows more.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from integrations import patterns
from integrations.invalid import explain, refuse
from integrations.registry import InvalidArguments, Tool, argument_names, json_schema, parse_arguments
from integrations.remembering import remember_short
from integrations.strict_json import NotPlainJson, check_object

MOST_TOOLS = 1_000
MOST_APPROVERS = 100
MOST_BYTES = 512 * 1024


class BadScopes(ValueError):
    """Not the scopes of a grant; the message says what is wrong and repeats no value."""


class Rule(StrEnum):
    """What a grant says of a tool, the tightest first."""

    OFF = "off"
    ASK = "ask"
    ALLOWED = "allowed"

    @property
    def words(self) -> str:
        """How pages write it."""
        return {"off": "Off", "ask": "Ask first", "allowed": "Allowed"}[self]


# --- what is kept -----------------------------------------------------------------------


class Kept(BaseModel):
    """Strict, and unknown fields are refused: a limit that we cannot read must not be overlooked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ToolScope(Kept):
    """
    What a grant says of one tool.

    `pinned` holds whole arguments by name. `max_tokens` caps the length of an answer,
    `max_messages` the length of the conversation. `unattended`: also when a schedule asks.
    `after_untrusted`: where it is allowed and spends money or changes something, also at once when text of
    strangers is in the conversation.
    """

    rule: Rule
    pinned: dict[str, Any] = {}
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    max_messages: Annotated[int, Field(ge=1, le=10_000)] | None = None
    unattended: bool = True
    after_untrusted: bool = False


class ModelPatterns(Kept):
    """Which models may be asked, as `integrations.patterns` reads them. Nothing allowed by name: all are."""

    allow: Annotated[tuple[str, ...], Field(max_length=patterns.MOST_PATTERNS)] = ()
    deny: Annotated[tuple[str, ...], Field(max_length=patterns.MOST_PATTERNS)] = ()

    @field_validator("allow", "deny")
    @classmethod
    def _are_patterns(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(patterns.is_pattern, given)):
            raise refuse("A model pattern is a model id, in which * may stand for anything.", "Write openai/*.")
        return given

    @property
    def restrict(self) -> bool:
        """Whether they leave out any model."""
        return bool(self.allow or self.deny)


ProviderSlug = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/&()-]*$")]
Providers = Annotated[tuple[ProviderSlug, ...], Field(max_length=patterns.MOST_PATTERNS)]


class ProviderLists(Kept):
    """Which providers may serve, by slug. Nothing allowed by name: all are."""

    allow: Providers = ()
    deny: Providers = ()


class Scopes(Kept):
    """
    All that a grant says.

    It ends at `ends_at`. `only_run`: it serves this run alone. `one_run`: the first run that uses it
    becomes that run. `approvers`: the members who may allow what asks first; empty: all with the right.
    """

    tools: Annotated[dict[str, ToolScope], Field(max_length=MOST_TOOLS)] = {}
    models: ModelPatterns = ModelPatterns()
    providers: ProviderLists = ProviderLists()
    ends_at: AwareDatetime | None = None
    only_run: UUID | None = None
    one_run: bool = False
    approvers: Annotated[tuple[UUID, ...], Field(max_length=MOST_APPROVERS)] = ()

    @field_validator("tools", mode="before")
    @classmethod
    def _write_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: {"rule": said} if isinstance(said, str) else said for name, said in given.items()}

    def rule_of(self, tool: str) -> Rule:
        """What the grant says of a tool. What it does not name is off."""
        return self.tools[tool].rule if tool in self.tools else Rule.OFF

    @property
    def wants_run(self) -> bool:
        """Whether the run that uses it next must be bound to it: see `integrations.binding`."""
        return self.one_run and self.only_run is None

    @property
    def provider_rules(self) -> dict[str, Any]:
        """The limits on providers, under the names that `policy.Rules` gives them."""
        return {"providers_only": list(self.providers.allow) or None, "providers_never": list(self.providers.deny)}

    def as_json(self) -> dict[str, Any]:
        """As a grant keeps them."""
        return self.model_dump(mode="json")


def read_scopes(data: Mapping[str, Any]) -> Scopes:
    """Read what a grant keeps, {"tools": {"x": "allowed"}} included. Raises BadScopes."""
    try:
        text = json.dumps(check_object(data), ensure_ascii=False)
        if len(text) > MOST_BYTES:
            raise BadScopes("The scopes of one grant may be up to 512 KiB.")
        return Scopes.model_validate_json(text)
    except NotPlainJson as error:
        raise BadScopes(str(error)) from None
    except ValidationError as error:
        raise BadScopes("; ".join(str(problem) for problem in explain(error, data, {}))) from None


# --- what is asked, and the answer ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One call to decide upon. `arguments` None asks about the tool in general.

    `models`: every further model that may be asked, beside those that the arguments name. `untrusted`: whoever
    asks has read text of strangers, which may hold orders.
    """

    tool: Tool
    arguments: BaseModel | None
    unattended: bool
    now: datetime
    run_id: UUID | None
    models: Sequence[str] = ()
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One restriction that was looked at: its name, whether it lets the call pass, and why, in words."""

    rule: str
    holds: bool
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a grant says of a call. `message` says what to do when it is not allowed; `steps` is the whole path."""

    rule: Rule
    message: str
    steps: tuple[Step, ...]


def decide(scopes: Scopes | None, ask: Ask) -> Verdict:
    """
    Say whether a grant allows a call, at once or after asking.

    All restrictions are looked at, also after one has failed, so that the path is complete. Costs
    (models asked) × (patterns), and one reading of the arguments where they are not literally as pinned.
    """
    if scopes is None:
        step = Step("grant", False, "There is no grant for this connection. Enable it under Scopes.")
        return Verdict(Rule.OFF, step.words, (step,))
    steps = tuple(_steps(scopes, ask))
    failed = [step for step in steps if not step.holds]
    if failed:
        return Verdict(Rule.OFF, failed[0].words, steps)
    rule = Rule.ASK if _is_suspect(scopes, ask) else scopes.rule_of(ask.tool.name)
    return Verdict(rule, f"{ask.tool.title} asks a person first." if rule is Rule.ASK else "", steps)


def _is_suspect(scopes: Scopes, ask: Ask) -> bool:
    """Whether strangers may have ordered this call, which spends money or changes something: then a person is asked."""
    return ask.untrusted and not ask.tool.hints.read_only and not scopes.tools[ask.tool.name].after_untrusted


def _steps(scopes: Scopes, ask: Ask) -> Iterable[Step]:
    yield Step("grant", True, "There is a grant for this connection.")
    yield _end(scopes, ask)
    yield from _run(scopes, ask)
    yield _tool(scopes, ask)
    said = scopes.tools.get(ask.tool.name)
    if said is None:
        return
    if ask.unattended:
        yield _unattended(said, ask)
    if ask.untrusted:
        yield _untrusted(scopes, ask)
    if ask.tool.tokens and scopes.models.restrict:
        yield _models(scopes.models, ask)
    if ask.arguments is not None:
        yield from _messages(said, ask.arguments)
        yield from _pins(said, ask)


def _end(scopes: Scopes, ask: Ask) -> Step:
    if scopes.ends_at is None:
        return Step("end", True, "The grant has no end.")
    at = f"{scopes.ends_at:%Y-%m-%d %H:%M} {scopes.ends_at.tzname()}"
    if scopes.ends_at <= ask.now:
        return Step("end", False, f"The grant ended at {at}. Give it a later end under Scopes.")
    return Step("end", True, f"The grant ends at {at}.")


def _run(scopes: Scopes, ask: Ask) -> Iterable[Step]:
    if scopes.only_run is None and not scopes.one_run:
        return
    if ask.run_id is None:
        yield Step("run", False, "The grant is for one run, and this call belongs to none. Change it under Scopes.")
    elif scopes.only_run is None:
        yield Step("run", True, "The grant is for one run, and no run has used it yet.")
    elif scopes.only_run == ask.run_id:
        yield Step("run", True, "The grant is for this run.")
    else:
        yield Step("run", False, "The grant was for another run. Renew it under Scopes.")


def _tool(scopes: Scopes, ask: Ask) -> Step:
    title = ask.tool.title
    words = {
        Rule.OFF: f"{title} is off. Allow it under Scopes.",
        Rule.ASK: f"{title} is on: it asks a person first.",
        Rule.ALLOWED: f"{title} is allowed.",
    }
    rule = scopes.rule_of(ask.tool.name)
    return Step("tool", rule is not Rule.OFF, words[rule])


def _unattended(said: ToolScope, ask: Ask) -> Step:
    title = ask.tool.title
    if said.unattended:
        return Step("unattended", True, f"{title} may be used by schedules.")
    words = f"{title} may not be used by a schedule. Start the run yourself, or allow unattended use."
    return Step("unattended", False, words)


def _untrusted(scopes: Scopes, ask: Ask) -> Step:
    title = ask.tool.title
    if _is_suspect(scopes, ask):
        words = f"{title} asks a person now: text of strangers is in the conversation, and it might have ordered this."
    else:
        words = f"{title} may also be used when text of strangers is in the conversation."
    return Step("untrusted", True, words)


# --- models -----------------------------------------------------------------------------


def _models(limits: ModelPatterns, ask: Ask) -> Step:
    asked = [*named_models(ask.arguments), *ask.models]
    if ask.arguments is not None and not asked:
        return Step("models", False, "The grant limits models, and the call names none. Name one.")
    for model in dict.fromkeys(asked):
        words = model_refusal(limits, model)
        if words:
            return Step("models", False, words)
    return Step("models", True, "Every model that may be asked is among those allowed.")


def named_models(arguments: BaseModel | None) -> list[str]:
    """Every model that a call's arguments name, in order."""
    named = [getattr(arguments, "model", None)]
    for field in ("models", "fallbacks"):
        named += getattr(arguments, field, None) or ()
    return [model for model in named if model]


def model_refusal(limits: ModelPatterns, model: str) -> str:
    """Say why a grant's patterns keep calls from a model; empty when they do not."""
    if not limits.restrict:
        return ""
    if patterns.is_denied(model, limits.deny):
        return f"The model {model} is forbidden in this grant. Choose another one."
    if patterns.is_indirect(model) and not patterns.is_allowed(model, limits.allow):
        return f"{model} leaves the choice of the model to others, so the grant must name it exactly. Name a model."
    if limits.allow and not patterns.is_allowed(model, limits.allow):
        return f"The model {model} is not among those allowed in this grant. Choose another one."
    return ""


# --- arguments --------------------------------------------------------------------------


def _messages(said: ToolScope, arguments: BaseModel) -> Iterable[Step]:
    messages = getattr(arguments, "messages", None)
    if said.max_messages is None or messages is None:
        return
    if len(messages) > said.max_messages:
        words = f"{len(messages)} messages are more than the {said.max_messages} allowed. Send fewer."
        yield Step("messages", False, words)
    else:
        yield Step("messages", True, f"{len(messages)} of at most {said.max_messages} messages.")


def _pins(said: ToolScope, ask: Ask) -> Iterable[Step]:
    if not said.pinned or ask.arguments is None:
        return
    names = ", ".join(sorted(said.pinned))
    holds = _is_as_pinned(said.pinned, ask.tool, ask.arguments)
    words = f"As pinned: {names}." if holds else f"Pinned, but not as pinned: {names}. Make the call again."
    others = _beside_pinned_model(said.pinned, [*named_models(ask.arguments), *ask.models])
    if others:
        holds, words = False, f"The model is pinned, so {others[0]} may not be asked in its place. Leave it out."
    yield Step("pinned", holds, words)


def _beside_pinned_model(fixed: Mapping[str, Any], named: Sequence[str]) -> list[str]:
    """The models named beside a pinned one: each could answer in its place."""
    if "model" not in fixed:
        return []
    pinned_ones = {fixed["model"], *(fixed.get("models") or ()), *(fixed.get("fallbacks") or ())}
    return [model for model in named if model not in pinned_ones]


def _is_as_pinned(fixed: Mapping[str, Any], tool: Tool, arguments: BaseModel) -> bool:
    said = arguments.model_dump(mode="json", by_alias=True, exclude_unset=True, include=set(fixed))
    if said == fixed:
        return True  # as ever; reading all arguments once more costs as much as their first check
    if not fixed.keys() <= argument_names(tool):
        return False
    try:
        expected = parse_arguments(tool, _given(arguments) | fixed)
    except InvalidArguments:
        return False
    # A cap may have lowered the length of the answer below what is pinned.
    update = {tool.output_limit: getattr(arguments, tool.output_limit)} if tool.output_limit else {}
    return expected.model_copy(update=update) == arguments


def pinned(scopes: Scopes, tool: str) -> dict[str, Any]:
    """Return the arguments that a grant fixes for a tool: they replace whatever the caller gives."""
    return deepcopy(scopes.tools[tool].pinned) if tool in scopes.tools else {}


def bound(scopes: Scopes, tool: Tool, arguments: BaseModel) -> BaseModel:
    """Return the arguments with the length of the answer inside the grant's cap. Raises InvalidArguments."""
    said = scopes.tools.get(tool.name)
    if said is None or said.max_tokens is None or not tool.output_limit:
        return arguments
    wanted = getattr(arguments, tool.output_limit)
    if wanted is not None and wanted <= said.max_tokens:
        return arguments
    # Checked again as a whole: other arguments may need more than the cap leaves.
    return parse_arguments(tool, _given(arguments) | {tool.output_limit: said.max_tokens})


def _given(arguments: BaseModel) -> dict[str, Any]:
    return arguments.model_dump(mode="json", by_alias=True, exclude_unset=True)


def offered_schema(tool: Tool, scopes: Scopes) -> dict[str, Any]:
    """Return the JSON Schema of a tool for a model or a form, without what is pinned and within the caps."""
    schema = json_schema(tool)
    said = scopes.tools.get(tool.name)
    if said is None:
        return schema
    for name in said.pinned:
        schema["properties"].pop(name, None)
    properties = schema["properties"]
    schema["required"] = [name for name in schema.get("required", ()) if name in properties]
    _lower(properties.get(tool.output_limit), "maximum", said.max_tokens)
    _lower(properties.get("messages"), "maxItems", said.max_messages)
    return schema


def _lower(spec: dict[str, Any] | None, limit: str, cap: int | None) -> None:
    if spec is None or cap is None:
        return
    spec[limit] = min(cap, spec.get(limit, cap))
    if "default" in spec:
        spec["default"] = min(spec["default"], cap)


# --- in short ---------------------------------------------------------------------------


def allowed_tools(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the tools that a grant allows, at once or after asking; none if it cannot be read."""
    return _allowed_tools(json.dumps(data))


@remember_short
def _allowed_tools(text: str) -> frozenset[str]:
    # Remembered by what the grant says: each call asks again just before its key is opened.
    try:
        scopes = read_scopes(json.loads(text))
    except BadScopes:
        return frozenset()
    return frozenset(name for name, said in scopes.tools.items() if said.rule is not Rule.OFF)


def allows(data: Mapping[str, Any], tool: str) -> bool:
    """Whether a grant allows a tool, at once or after asking. What it does not name is off."""
    return tool in allowed_tools(data)
