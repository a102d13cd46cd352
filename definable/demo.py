"""The demo team: what a newcomer finds after the first `make up`. All of it made by the product's own actions."""

from decimal import Decimal

from accounts.actions import create_team
from accounts.models import Plan, Team, User
from audit.clock import app_now
from integrations.actions import connect, enable_for, set_scopes
from integrations.limiting import set_cap
from integrations.models import Connection
from integrations.policy import Rules
from integrations.policy_actions import set_policy
from integrations.registry import get_integration, offered_tools
from integrations.scopes import read_scopes
from personas.actions import create_persona, run_flow
from personas.flow_actions import create_flow
from personas.models import Flow, Persona
from personas.schedules import set_schedule

OWNER = "owner@demo.example"
MODEL_CALLS = ["create_chat_completion", "create_message"]
WRITER_MODELS = ["anthropic/claude-sonnet-4.6", "openai/gpt-5.4-mini", "google/gemini-2.5-flash"]
DRAFT_MODELS = ["openai/gpt-5.4", "anthropic/claude-haiku-4.5"]
READER_MODELS = ["google/gemini-2.5-flash", "mistralai/mistral-medium-3.1"]
VOICE_MODELS = ["anthropic/claude-haiku-4.5", "openai/gpt-5.4-mini"]
MODELS = {*WRITER_MODELS, *DRAFT_MODELS, *READER_MODELS, *VOICE_MODELS}  # whose endpoints are to be known
# The cheapest is sought among all of these; the grant keeps it from models that are free.
HEADLINE_MODELS = ["openai/*", "mistralai/*"]
HEADLINE_SCOPES = {"tools": {"create_chat_completion": "allowed"}, "models": {"deny": ["*:free"]}}
VOICE_SCOPES = {
    "tools": {"create_chat_completion": {"rule": "ask", "max_tokens": 400, "max_messages": 10}},
    "models": {"allow": ["anthropic/*", "openai/*"]},
}


def make_demo_team(*, api_key: str, management_key: str) -> Team:
    """
    Make a team that is connected with both kinds of key, with five personas, three flows, and limits.

    One flow fires each minute and routes around a rate-limited model. One is a pipeline over two
    providers whose outputs are combined. One waits until somebody allows what it asks: its first
    run is started here.
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
    voice, headlines = _make_limited_personas(team, owner, main)
    _limit(team, owner, writer)
    _make_flows(team, owner, watch, writer, editor, headlines)
    notice = _make_asking_flow(team, owner, voice, headlines)
    run_flow(flow=notice, by=owner, idempotency_key="demo")
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
        chain=WRITER_MODELS,
        max_tokens=300,
    )
    editor = create_persona(
        team=team,
        by=owner,
        name="Second Reader",
        purpose="Checks a draft with another provider's model",
        instructions="You read drafts critically and say what is missing or wrong, in a few sentences.",
        chain=READER_MODELS,
        max_tokens=300,
    )
    return watch, writer, editor


def _make_limited_personas(team: Team, owner: User, main: Connection) -> tuple[Persona, Persona]:
    """One asks a person before each model call; one takes the cheapest model of a pattern."""
    voice = create_persona(
        team=team,
        by=owner,
        name="Public Voice",
        purpose="Writes what leaves the house; asks first",
        instructions="You write notices to customers: what happens, when, and what they need to do.",
        chain=VOICE_MODELS,
        max_tokens=300,
    )
    headlines = create_persona(
        team=team,
        by=owner,
        name="Headline Writer",
        purpose="Finds a headline, with the cheapest model that fits",
        instructions="You answer with one headline of at most eight words.",
        chain=HEADLINE_MODELS,
        routing="cheapest",
        max_tokens=60,
    )
    for persona, scopes in ((voice, VOICE_SCOPES), (headlines, HEADLINE_SCOPES)):
        set_scopes(connection=main, holder=persona.pk, name=persona.name, scopes=read_scopes(scopes), by=owner)
    return voice, headlines


def _limit(team: Team, owner: User, writer: Persona) -> None:
    """Limits that a day of the demo stays well within."""
    when = {"period": "day", "by": owner, "at": app_now()}
    every = {"team": team, "kind": "team", "subject": None, "name": "The whole team", "mode": "strict"}
    set_cap(**every, limit_usd=Decimal(20), **when)
    one = {"team": team, "kind": "persona", "subject": writer.pk, "name": writer.name, "mode": "expected"}
    set_cap(**one, limit_usd=Decimal(10), **when)
    set_policy(team=team, holder=team.pk, name=team.name, rules=Rules(data_collection="deny"), by=owner)


def _make_flows(team: Team, owner: User, watch: Persona, writer: Persona, editor: Persona, headlines: Persona) -> None:
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
                "chain": DRAFT_MODELS,
            },
            {
                "kind": "prompt",
                "name": "review",
                "persona": str(editor.pk),
                "template": "Read this draft and say what is missing:\n\n{{ stage.draft.output }}",
            },
            {
                "kind": "prompt",
                "name": "headline",
                "persona": str(headlines.pk),
                "template": "Find a headline for this draft:\n\n{{ stage.draft.output }}",
            },
            {
                "kind": "combine",
                "name": "both",
                "template": "# {{ stage.headline.output }}\n\n## Draft\n\n{{ stage.draft.output }}\n\n"
                "## Second reader\n\n{{ stage.review.output }}",
            },
        ],
    )
    set_schedule(flow=opinion, cron="0 * * * *", zone="UTC", catch_up="latest", overlap="skip", by=owner)


def _make_asking_flow(team: Team, owner: User, voice: Persona, headlines: Persona) -> Flow:
    notice = create_flow(
        team=team,
        by=owner,
        name="Customer notice",
        purpose="Asks a person before a model writes to customers, then finds a headline",
        stage_list=[
            {
                "kind": "prompt",
                "name": "notice",
                "persona": str(voice.pk),
                "template": "Tell our customers that reports will be an hour late on Sunday, from 02:00 to 03:00 UTC.",
            },
            {
                "kind": "prompt",
                "name": "headline",
                "persona": str(headlines.pk),
                "template": "Find a headline for this notice:\n\n{{ stage.notice.output }}",
            },
        ],
    )
    # While a run that it started waits for an answer, the next ones are skipped: questions do not pile up.
    set_schedule(flow=notice, cron="30 * * * *", zone="UTC", catch_up="latest", overlap="skip", by=owner)
    return notice
