"""What a connection's key reaches: which tools it can use, and why not."""

from dataclasses import dataclass, field
from typing import Any

from accounts.permissions import Permission, allows
from audit.actions import Actor
from integrations.advice import in_words
from integrations.calls import REFUSALS, Caller, call_tool, close_in_doubt
from integrations.errors import KeyRefused, UpstreamError
from integrations.models import Call, Connection
from integrations.registry import Integration, Tool
from vault.actions import adopt_credential
from vault.box import Unreadable
from vault.opening import Revoked


@dataclass(frozen=True, slots=True)
class Found:
    """What a test found. `tools` maps each tool to "" when usable, else to the reason in words."""

    state: Connection.State
    reason: str = ""
    account: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)


def test(*, connection: Connection) -> Found:
    """
    Test a connection by its integration's trial, in the name of the member who made it.

    Only a direct refusal of the key condemns it; anything else leaves room for another try.
    """
    _close_lost(connection)
    try:
        adopt_credential(credential=connection.credential)
        account = _tried(connection)
    except (Unreadable, Revoked):
        return Found(Connection.State.UNREADABLE, "The stored key cannot be read. Connect it again.")
    except KeyRefused as error:
        return Found(Connection.State.REFUSED, f"The provider refuses this key: {error.message}"[:300])
    except UpstreamError as error:
        return Found(Connection.State.UNREACHABLE, in_words(error)[:300])
    except REFUSALS as refusal:
        return Found(Connection.State.UNREACHABLE, str(refusal)[:300])
    return Found(Connection.State.READY, account=account, tools=_reach(connection, account))


def _close_lost(connection: Connection) -> None:
    """A test that is made again has lost its worker; if it has not, its answer settles the call all the same."""
    trial = connection.provider.trial
    own = Call.objects.filter(connection=connection, state=Call.State.SENT, run_id=None, persona_id=None)
    for call in own.filter(tool=trial.tool) if trial else ():
        close_in_doubt(call=call)


def _tried(connection: Connection) -> dict[str, Any]:
    """Return what the service says of whose connection it is; nothing where it cannot be asked."""
    trial = connection.provider.trial
    if trial is None:
        return {}
    arguments, caller = dict(trial.arguments), _asker(connection)
    called = call_tool(team=connection.team, connection=connection, tool=trial.tool, arguments=arguments, caller=caller)
    return trial.account(called.result["data"])


def _asker(connection: Connection) -> Caller:
    """The member who made the connection; the installation itself once they may not ask any more."""
    user = connection.created_by
    role = user.memberships.filter(team=connection.team, user__is_active=True).values_list("role", flat=True).first()
    if role and allows(role, Permission.TOOL_RUN):
        return Caller(user=user, actor=Actor.user(user))
    return Caller.system("reach test")


def _reach(connection: Connection, account: dict[str, Any]) -> dict[str, str]:
    provider, kind = connection.provider, account.get("kind", "")
    return {tool.name: _why_not(provider, tool, kind) for tool in provider.tools}


def _why_not(provider: Integration, tool: Tool, kind: str) -> str:
    if tool.hints.retired:
        return tool.retired_because
    if tool.credential == "management" and kind != "management":
        return "Needs a management key; this is an API key."
    proven = provider.trial is not None and tool.name == provider.trial.tool
    if tool.credential == "api_key" and not proven and kind == "management":
        return "Needs an API key; a management key cannot do this."
    return ""
