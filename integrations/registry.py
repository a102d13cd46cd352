"""
What tools exist: the one list that chat, flows, the console and the guides read.

An integration is a package below this one. It describes itself with one Integration value and
is named once, in REGISTERED. Nothing here knows teams, credentials, models or the network.
"""

import json
import pkgutil
from collections.abc import Callable, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ValidationError

from integrations.invalid import Problem, explain
from integrations.strict_json import NotPlainJson, check_object, load_object

if TYPE_CHECKING:
    from integrations.facts import ModelFacts, Prices
    from integrations.pricing import Extras
    from integrations.wire import Answer, Request

# Every integration by the place of its value, in the order in which pages list them.
REGISTERED = (
    "integrations.openrouter.tools:OPENROUTER",
    "integrations.webhook.tools:WEBHOOK",
)

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


class CannotConnect(Exception):
    """What a member gave cannot make a connection. `field` is the one that is wrong; the message says what to do."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


@dataclass(frozen=True)
class Hints:
    """
    What a caller must know about a tool before it decides to call it.

    `keeps_id`: all tries of one stage carry the same `Request.once`, by which the service tells them from new ones.
    """

    read_only: bool = False
    spends_money: bool = False
    needs_management_key: bool = False
    retired: bool = False
    repeatable: bool = False
    holds_text: bool = False
    keeps_id: bool = False


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
    names; with_bounded_steps(arguments) makes sure that it does not go on for longer than that, and
    no_dearer(arguments, prices) that nothing is asked which costs more than these prices.
    A tool is found by its name alone, so no two integrations may use the same one.
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
    no_dearer: Callable[[Any, "Prices"], Any] = lambda arguments, prices: arguments
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
class ConnectField:
    """
    One thing that a member gives to connect.

    A `secret` is never sent back to a browser. With `made`, it may be left empty: then that makes the
    value, and a page shows it once.
    """

    name: str
    label: str
    help: str
    secret: bool = False
    most: int = 2000
    made: Callable[[], str] | None = None


@dataclass(frozen=True)
class Connecting:
    """
    How a connection is made: what to ask a member for, and how that becomes the one text that the vault seals.

    join(values) returns that text, of printable ASCII without spaces, or raises CannotConnect. `noun` is
    the word for it, `verb` what a button says, `lede` what stands above the form.
    """

    fields: tuple[ConnectField, ...]
    join: Callable[[Mapping[str, str]], str]
    noun: str
    verb: str
    lede: str = ""


API_KEY = Connecting(
    (
        ConnectField(
            "key", "Key", "Encrypted before it is stored. Nobody can read it here again, you included.", secret=True
        ),
    ),
    join=lambda values: values["key"],
    noun="key",
    verb="Connect a key",
)


def labelled(account: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a page says of an account of which only its label is known."""
    return [("Account", str(account["label"]))] if account.get("label") else []


@dataclass(frozen=True)
class Trial:
    """
    How a connection is tested: by calling `tool` with `arguments`.

    account(data) returns what to keep of the result's data, rows(account) what a page says of it.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    account: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda data: {}
    rows: Callable[[Mapping[str, Any]], list[tuple[str, str]]] = labelled


@dataclass(frozen=True)
class Bills:
    """
    How a lost call's bill is asked for: by calling `tool` with the arguments for a generation's id.

    facts(data) returns cost_usd, tokens_in and tokens_out of the body that came, each None when it is not known.
    """

    tool: str
    arguments: Callable[[str], dict[str, Any]]
    facts: Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Integration:
    """
    An outside service: who it is, how it is connected and what its tools are.

    client(base_url) makes the object that builds and sends its requests; `base_url` is where to, unless the
    installation says otherwise. `trial` tests a connection; without one it is ready at once. `catalog` reads what
    the service offers and `bills` what a lost call took, where it publishes that. `asks_consent`: its client has
    `consent_url` and `exchange_code`, so a member may agree there instead of pasting a key.
    """

    slug: str
    name: str
    about: str
    client: Callable[[str], Any]
    tools: tuple[Tool, ...]
    site_url: str = ""
    key_url: str = ""
    management_key_url: str = ""
    base_url: str = ""
    connecting: Connecting = API_KEY
    trial: Trial | None = None
    catalog: CatalogSource | None = None
    bills: Bills | None = None
    asks_consent: bool = False

    @property
    def first_label(self) -> str:
        """What a connection to it is called unless somebody says otherwise."""
        return f"{self.name} main account" if self.connecting is API_KEY else f"Main {self.connecting.noun}"

    def account_rows(self, account: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What a page says of the account that a test found, as terms and values."""
        return self.trial.rows(account) if self.trial and account else []

    def has(self, name: str) -> bool:
        """Whether one of its tools has that name."""
        return any(tool.name == name for tool in self.tools)

    def tool(self, name: str) -> Tool:
        """The tool of that name. Raises UnknownTool."""
        for tool in self.tools:
            if tool.name == name:
                return tool
        raise UnknownTool(f"{self.name} has no tool of that name")


@cache
def integrations() -> tuple[Integration, ...]:
    """Every integration, in the order in which pages list them."""
    # By name and not above: an integration's own module needs the classes of this one.
    return tuple(map(pkgutil.resolve_name, REGISTERED))


def get_integration(slug: str) -> Integration:
    """The integration with that slug. Raises UnknownTool."""
    for integration in integrations():
        if integration.slug == slug:
            return integration
    raise UnknownTool("there is no integration of that name")


def get_tool(integration: str, name: str) -> Tool:
    """The tool of that name in the integration with that slug. Raises UnknownTool."""
    return get_integration(integration).tool(name)


def integration_of(tool: str) -> Integration:
    """The integration that has a tool of this name. Raises UnknownTool."""
    for integration in integrations():
        if integration.has(tool):
            return integration
    raise UnknownTool("there is no tool of that name")


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
