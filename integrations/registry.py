"""
What tools exist: the one list that chat, flows, the console and the guides read.

An integration is a package below this one. It describes itself with one Integration value and
is named once, in integrations(). Nothing here knows teams, credentials, models or the network.
"""

import json
from collections.abc import Callable, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ValidationError

from integrations.invalid import Problem, explain
from integrations.strict_json import NotPlainJson, check_object, load_object

if TYPE_CHECKING:
    from integrations.facts import ModelFacts, Prices
    from integrations.pricing import Extras
    from integrations.wire import Answer, Request

CredentialNeed = Literal["api_key", "management", "optional", "none"]


class UnknownTool(Exception):
    """No such integration, or no tool of that name in it."""


class InvalidArguments(Exception):
    """
    The arguments do not fit the tool; nothing was sent.

    `problems` says what is wrong, field by field, and repeats no value that was given.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Hints:
    """What a caller must know about a tool before it decides to call it."""

    read_only: bool = False
    spends_money: bool = False
    needs_management_key: bool = False
    retired: bool = False
    repeatable: bool = False
    holds_text: bool = False


@dataclass(frozen=True)
class Tool:
    """
    One thing an integration can do.

    prepare(arguments, client, platform=None) builds the request and sends nothing; `platform` holds
    the fields that we fill and callers may not (user, session_id, metadata, trace).
    read(answer, arguments) makes the useful `data` of a result out of an answer.
    `output_limit` names the argument that bounds a model's answer, in tokens.
    `brief` holds fewer of the arguments, for callers that are models: see `in_brief`.
    extras(arguments, models) says what a call costs beside tokens, by the models asked under their
    names; with_bounded_steps(arguments) makes sure that it does not go on for longer than that.
    """

    name: str
    title: str
    summary: str
    when_to_use: str
    arguments: type[BaseModel]
    hints: Hints
    prepare: Callable[..., "Request"]
    read: Callable[["Answer", Any], dict[str, Any]]
    credential: CredentialNeed = "api_key"
    tokens: Callable[[Any], tuple[int, int]] | None = None
    output_limit: str = ""
    brief: type[BaseModel] | None = None
    extras: Callable[[Any, Mapping[str, "ModelFacts | None"]], "Extras"] | None = None
    with_bounded_steps: Callable[[Any], Any] = lambda arguments: arguments
    retired_because: str = ""
    instead_url: str = ""


Record = dict[str, Any]


class CatalogSource(Protocol):
    """
    How an integration's catalog is asked for and read: a module of these functions.

    `…_columns` gives a record as columns of a table, or None when it is broken; `tiers_of` gives every
    price that a record may ask beside the one that is in use.
    """

    def lists(self, client: Any) -> tuple["Request", "Request", "Request"]:
        """Build the requests for all models, all endpoints that retain nothing, and all providers."""

    def endpoints(self, client: Any, model_id: str) -> "Request":
        """Build the request for all endpoints of one model."""

    def records(self, answer: "Answer") -> list[Record]:
        """Return the records of an answer. Raises BadAnswer when it holds no list."""

    def model_columns(self, record: Record) -> Record | None: ...

    def endpoint_columns(self, record: Record) -> Record | None: ...

    def provider_columns(self, record: Record) -> Record | None: ...

    def model_of(self, endpoint: Record) -> str:
        """Return the id of the model that a record of an endpoint is about."""

    def prices_of(self, record: Any) -> "Prices": ...

    def tiers_of(self, record: Any, listed: "Prices") -> tuple["Prices", ...]: ...


@dataclass(frozen=True)
class Integration:
    """
    An outside service: who it is, where its keys come from and what its tools are.

    client(base_url) makes the object that builds and sends its requests. `catalog` reads what it
    offers, where it publishes that.
    """

    slug: str
    name: str
    about: str
    site_url: str
    key_url: str
    management_key_url: str
    client: Callable[[str], Any]
    tools: tuple[Tool, ...]
    catalog: CatalogSource | None = None

    def tool(self, name: str) -> Tool:
        """The tool of that name. Raises UnknownTool."""
        for tool in self.tools:
            if tool.name == name:
                return tool
        raise UnknownTool(f"{self.name} has no tool of that name")


@cache
def integrations() -> tuple[Integration, ...]:
    """Every integration, in the order in which pages list them."""
    # Here and not above: an integration's own module needs the classes of this one.
    from integrations.openrouter.tools import OPENROUTER

    return (OPENROUTER,)


def get_integration(slug: str) -> Integration:
    """The integration with that slug. Raises UnknownTool."""
    for integration in integrations():
        if integration.slug == slug:
            return integration
    raise UnknownTool("there is no integration of that name")


def get_tool(integration: str, name: str) -> Tool:
    """The tool of that name in the integration with that slug. Raises UnknownTool."""
    return get_integration(integration).tool(name)


def offered_tools(integration: Integration) -> tuple[Tool, ...]:
    """The tools a model may be offered: all but those the provider has withdrawn."""
    return tuple(tool for tool in integration.tools if not tool.hints.retired)


def in_brief(tool: Tool) -> Tool:
    """The tool with the arguments that models are offered: all of them, or those that are enough for a model."""
    return replace(tool, arguments=tool.brief) if tool.brief else tool


def json_schema(tool: Tool) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, for function calling and for forms."""
    return deepcopy(_schema(tool.arguments))


def argument_names(tool: Tool) -> Set[str]:
    """The names of a tool's arguments, as callers write them."""
    return _schema(tool.arguments)["properties"].keys()


@cache
def _schema(arguments: type[BaseModel]) -> dict[str, Any]:
    # 45 ms for a chat: too long for every page that shows a form.
    return arguments.model_json_schema()


def parse_arguments(tool: Tool, given: Mapping[str, Any] | str | bytes) -> BaseModel:
    """
    Check arguments against the tool's model: JSON text or a plain mapping. Raises InvalidArguments.

    The tool decides the type; nothing inside the arguments can choose another one.
    """
    checked = _check(tool, given)
    if isinstance(checked, list):
        # Raised here, so that no earlier exception, which quotes what was given, hangs on to this one.
        raise InvalidArguments(checked)
    return checked


def _check(tool: Tool, given: Mapping[str, Any] | str | bytes) -> BaseModel | list[Problem]:
    try:
        plain = load_object(given) if isinstance(given, str | bytes) else check_object(given)
    except NotPlainJson as error:
        return [Problem("", str(error), error.hint)]
    try:
        # JSON in, so that strictness means one thing: a number is a number, an object an object.
        return tool.arguments.model_validate_json(json.dumps(plain, ensure_ascii=False))
    except ValidationError as error:
        return explain(error, plain, getattr(tool.arguments, "refused", {}))


def tokens_upper_bound(tool: Tool, arguments: BaseModel) -> tuple[int, int] | None:
    """At most (tokens in, tokens out) for one exchange, or None when the tool uses no model."""
    return tool.tokens(arguments) if tool.tokens else None
