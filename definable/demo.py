"""The demo team: what a newcomer finds after the first `make up`. All of it made by the product's own actions."""

from accounts.actions import create_team
from accounts.models import Plan, Team, User
from audit.clock import app_now
from integrations.actions import connect, enable_for
from integrations.models import Connection
from integrations.registry import get_integration, offered_tools
from personas.actions import create_flow, create_persona, set_schedule
from personas.models import Persona

OWNER = "owner@demo.example"
MODEL_CALLS = ["create_chat_completion", "create_message"]


def make_demo_team(*, api_key: str, management_key: str) -> Team:
    """
    Make a team that is connected with both kinds of key, with three personas and two flows.

    One flow fires each minute and routes around a rate-limited model; the other is a pipeline
    over two providers whose outputs are combined.
    """
    owner = User.objects.create_user(email=OWNER, name="Demo owner")
    # Pro, so that a flow that fires each minute has platform credits for days.
    plan = Plan.objects.get(key="pro")
    team = create_team(name="Demo team", owner=owner, at=app_now(), plan=plan, is_demo=True)
    main = _connect(team, owner, "OpenRouter main account", "api_key", api_key)
    billing = _connect(team, owner, "OpenRouter billing", "management", management_key)
    watch, writer, editor = _make_personas(team, owner)
    _lend(main, owner, {writer: MODEL_CALLS + _reads(), editor: MODEL_CALLS, watch: _reads()})
    _lend(billing, owner, {watch: ["get_credits"]})
    _make_flows(team, owner, watch, writer, editor)
    return team


def _connect(team: Team, owner: User, label: str, kind: str, key: str) -> Connection:
    return connect(team=team, integration=get_integration("openrouter"), label=label, kind=kind, posted=key, by=owner)


def _reads() -> list[str]:
    return [tool.name for tool in offered_tools(get_integration("openrouter")) if tool.hints.read_only]


def _lend(connection: Connection, owner: User, tools: dict[Persona, list[str]]) -> None:
    for persona, names in tools.items():
        enable_for(connection=connection, persona_id=persona.pk, tools=names, by=owner)


def _make_personas(team: Team, owner: User) -> tuple[Persona, Persona, Persona]:
    watch = create_persona(
        team=team,
        by=owner,
        name="Spend Watch",
        purpose="Watches the key, its limits and the balance",
    )
    writer = create_persona(
        team=team,
        by=owner,
        name="Brief Writer",
        purpose="Writes short status notes",
        instructions="You write short, plain status notes for a busy team. Three sentences at most.",
        chain=["anthropic/claude-sonnet-4.6", "openai/gpt-5.4-mini"],
        max_tokens=300,
    )
    editor = create_persona(
        team=team,
        by=owner,
        name="Second Reader",
        purpose="Checks a draft with another provider's model",
        instructions="You read drafts critically and say what is missing or wrong, in a few sentences.",
        chain=["google/gemini-2.5-flash", "mistralai/mistral-medium-3.1"],
        max_tokens=300,
    )
    return watch, writer, editor


def _make_flows(team: Team, owner: User, watch: Persona, writer: Persona, editor: Persona) -> None:
    brief = create_flow(
        team=team,
        by=owner,
        name="Minute brief",
        purpose="Reads the key's limits and writes a note, on a fallback when the first model is busy",
        stage_list=[
            {"kind": "tool", "name": "limits", "persona": str(watch.pk), "tool": "get_current_key"},
            {
                "kind": "prompt",
                "name": "brief",
                "persona": str(writer.pk),
                "template": "Write a status note on our spending limit, as of {{ input.time }}.\n\nKey facts:\n"
                "{{ stage.limits.output }}",
            },
        ],
    )
    set_schedule(flow=brief, cron="* * * * *", zone="UTC", catch_up="latest", overlap="allow", by=owner)
    opinion = create_flow(
        team=team,
        by=owner,
        name="Second opinion",
        purpose="One provider drafts, another one reads, both are combined",
        stage_list=[
            {
                "kind": "prompt",
                "name": "draft",
                "persona": str(writer.pk),
                "template": "Draft a note on why a team should keep a fallback model for every job.",
                "chain": ["openai/gpt-5.4", "anthropic/claude-haiku-4.5"],
            },
            {
                "kind": "prompt",
                "name": "review",
                "persona": str(editor.pk),
                "template": "Read this draft and say what is missing:\n\n{{ stage.draft.output }}",
            },
            {
                "kind": "combine",
                "name": "both",
                "template": "## Draft\n\n{{ stage.draft.output }}\n\n## Second reader\n\n{{ stage.review.output }}",
            },
        ],
    )
    set_schedule(flow=opinion, cron="0 * * * *", zone="UTC", catch_up="latest", overlap="skip", by=owner)
