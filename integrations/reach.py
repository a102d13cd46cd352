"""What a connection's key reaches: which tools it can use, and why not."""

from dataclasses import dataclass, field
from typing import Any

from accounts.permissions import Permission, allows
from audit.actions import Actor
from integrations.advice import in_words
from integrations.calls import REFUSALS, Caller, call_tool, close_in_doubt
from integrations.errors import KeyRefused, UpstreamError
from integrations.models import Call, Connection
from integrations.registry import Tool
from vault.actions import adopt_credential
from vault.box import Unreadable
from vault.opening import Revoked

IDENTITY = "get_current_key"
ACCOUNT_FIELDS = ["label", "kind", "limit", "limit_remaining", "limit_reset", "is_free_tier", "expires_at", "usage"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a test found. `tools` maps each tool to "" when usable, else to the reason in words."""

    state: Connection.State
    reason: str = ""
    account: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)


def test(*, connection: Connection) -> Found:
    """
    Test a connection with one identity call in the name of the member who made it.

    Only a direct refusal of the key condemns it; anything else leaves room for another try.
    """
    _close_lost(connection)
    try:
        adopt_credential(credential=connection.credential)
        who = _identity(connection)
    except (Unreadable, Revoked):
        return Found(Connection.State.UNREADABLE, "The stored key cannot be read. Connect it again.")
    except KeyRefused as error:
        return Found(Connection.State.REFUSED, f"The provider refuses this key: {error.message}"[:300])
    except UpstreamError as error:
        return Found(Connection.State.UNREACHABLE, in_words(error)[:300])
    except REFUSALS as refusal:
        return Found(Connection.State.UNREACHABLE, str(refusal)[:300])
    account = {name: who[name] for name in ACCOUNT_FIELDS if name in who}
    return Found(Connection.State.READY, account=account, tools=_reach(connection, account))


def _close_lost(connection: Connection) -> None:
    """A test that is made again has lost its worker; if it has not, its answer settles the call all the same."""
    lost = Call.objects.filter(
        connection=connection, state=Call.State.SENT, tool=IDENTITY, run_id=None, persona_id=None
    )
    for call in lost:
        close_in_doubt(call=call)


def _identity(connection: Connection) -> dict[str, Any]:
    called = call_tool(
        team=connection.team, connection=connection, tool=IDENTITY, arguments={}, caller=_asker(connection)
    )
    return called.result["data"]


def _asker(connection: Connection) -> Caller:
    """The member who made the connection; the installation itself once they may not ask any more."""
    user = connection.created_by
    role = user.memberships.filter(team=connection.team, user__is_active=True).values_list("role", flat=True).first()
    if role and allows(role, Permission.TOOL_RUN):
        return Caller(user=user, actor=Actor.user(user))
    return Caller.system("reach test")


def _reach(connection: Connection, account: dict[str, Any]) -> dict[str, str]:
    return {tool.name: _why_not(tool, account.get("kind", "")) for tool in connection.provider.tools}


def _why_not(tool: Tool, kind: str) -> str:
    if tool.hints.retired:
        return tool.retired_because
    if tool.credential == "management" and kind != "management":
        return "Needs a management key; this is an API key."
    if tool.credential == "api_key" and tool.name != IDENTITY and kind == "management":
        return "Needs an API key; a management key cannot do this."
    return ""
