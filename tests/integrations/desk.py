"""A team with a tested connection to the stand-in, and what the books say of its calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from accounts.models import CreditAccount, Plan, Team, User
from audit.actions import Actor
from audit.ids import uuid7
from audit.models import Content, Event
from integrations import actions
from integrations.calls import Caller, CallResult, call_tool
from integrations.models import Call, Connection
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.connections import Timeouts
from integrations.openrouter.tools import OPENROUTER
from tests.factories import make_team, owner_of
from tests.sandbox_fixture import Sandbox
from vault.content import open_content

MODEL = "anthropic/claude-sonnet-4.6"
WORDS = "Say hello to the quiet harbour"
CHAT = "create_chat_completion"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": WORDS}], "max_completion_tokens": 40}
IMPATIENT = Timeouts(connect=0.5, read=0.3, total=1.0)


class Desk:
    """One team, its owner and its connection; `call` asks as the owner unless told otherwise."""

    def __init__(self, sandbox: Sandbox, *, plan: Plan | None = None, **wish: Any) -> None:
        self.sandbox = sandbox
        self.team = make_team(plan=plan)
        self.key = sandbox.key(**wish)
        self.connection = self.connect(self.key, kind="management" if wish.get("management") else "api_key")

    def connect(self, posted: str, *, label: str = "Main", kind: str = "api_key") -> Connection:
        """Connect a key and test it, as a form and a worker do."""
        connection = actions.connect(
            team=self.team, integration=OPENROUTER, label=label, kind=kind, posted=posted, by=self.owner
        )
        actions.run_test(connection=connection)
        connection.refresh_from_db()
        return connection

    @cached_property
    def owner(self) -> User:
        return owner_of(self.team)

    def call(
        self,
        tool: str = CHAT,
        arguments: Mapping[str, Any] = QUESTION,
        *,
        team: Team | None = None,
        connection: Connection | None = None,
        on_text: Callable[[str], None] | None = None,
        chain: Sequence[str] = (),
        approval_id: UUID | None = None,
        **who: Any,
    ) -> CallResult:
        return call_tool(
            team=team or self.team,
            connection=connection or self.connection,
            tool=tool,
            arguments=arguments,
            caller=self.caller(**who),
            on_text=on_text,
            chain=chain,
            approval_id=approval_id,
        )

    def caller(self, user: User | None = None, **more: Any) -> Caller:
        user = user or self.owner
        return Caller(user=user, actor=Actor.user(user), **more)

    def through(self, client: Callable[[str], Any]) -> Connection:
        """The connection, but sent through another kind of client."""
        connection = Connection.objects.select_related("team", "credential").get(pk=self.connection.pk)
        connection.provider = replace(OPENROUTER, client=client)
        return connection

    def hurried(self) -> Connection:
        """The connection, but with a client that waits for next to nothing."""
        return self.through(impatient)

    def grant(self, *tools: str) -> UUID:
        """A persona that may use these tools."""
        persona_id = uuid7()
        actions.enable_for(connection=self.connection, persona_id=persona_id, tools=tools, by=self.owner)
        return persona_id

    # --- what the books say -----------------------------------------------------------------

    @property
    def account(self) -> CreditAccount:
        return CreditAccount.objects.get(team=self.team)

    def last_call(self) -> Call:
        return Call.objects.filter(team=self.team).latest("id")

    def lines_of(self, call: Call) -> list[dict[str, Any]]:
        """What the service itself wrote down about a call."""
        return [line for line in self.sandbox.journal() if line["request_id"] == str(call.pk)]


def impatient(url: str) -> OpenRouter:
    return OpenRouter(url, timeouts=IMPATIENT)


def events_of(call: Call) -> list[Event]:
    return list(Event.objects.filter(call_id=call.pk).order_by("at", "id"))


def said(event: Event) -> str:
    """What was sealed for an event."""
    return open_content(content=Content.objects.get(pk=event.content_id)).decode()


def picodollars(amount: Decimal | str | None) -> Decimal | None:
    """Dollars with the decimals that the log keeps."""
    return None if amount is None else Decimal(amount).quantize(Decimal(10) ** -12)
