"""
A mixed load: teams with personas and flows whose runs make so many calls. Workers do the work.

Runs inside an installation, by `manage.py shell`, and through the product's own actions only.
"""

import json
import random
import time
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest

from accounts.actions import create_team
from accounts.models import Membership, Plan, Team, User
from accounts.permissions import Role
from audit.clock import app_now
from integrations import catalog
from integrations.actions import connect, enable_for
from integrations.models import Cap, Connection
from integrations.policy import read_rules
from integrations.policy_actions import set_policy
from integrations.registry import get_integration, offered_tools
from personas import actions, flow_actions
from personas.chat import sending
from personas.models import Flow, Persona
from personas.schedules import Wish, add_schedule
from personas.stages import MAX_STAGES

SECONDS_TO_ADOPT = 60  # a key waits for a worker
FLOWS_PER_TEAM = 6
MOST_TOKENS = 120
CHAINS = {
    "Ada": ["anthropic/claude-sonnet-4.6", "openai/gpt-5.4-mini", "google/gemini-2.5-flash"],
    "Ben": ["openai/gpt-5.4", "anthropic/claude-haiku-4.5", "openai/gpt-4o-mini", "deepseek/deepseek-v3.2"],
    "Cleo": ["google/gemini-2.5-flash", "mistralai/mistral-medium-3.1", "openai/gpt-oss-120b"],
    "Dora": ["deepseek/deepseek-v3.2", "openai/gpt-oss-120b"],
    "Emil": ["meta-llama/llama-3.3-70b-instruct", "x-ai/grok-4.20", "openai/gpt-4o-mini", "z-ai/glm-5.1"],
    "Fay": ["google/gemini-2.0-flash-001", "openai/gpt-4o-mini", "mistralai/mistral-medium-3.1"],
}
# Wide ones that only count, and one for each run that shortens answers and refuses some.
CAPS = [("team", "month", "strict", "50"), ("persona", "day", "expected", "5"), ("run", "ever", "strict", "0.01")]
FLOOR = {"data_collection": "deny", "max_price_out": "60"}
READS: dict[str, dict[str, Any]] = {
    "get_current_key": {},
    "get_models_count": {},
    "list_available_models": {"limit": 2},
    "list_model_endpoints": {"model": "openai/gpt-4o-mini"},
    "list_providers": {"slug": ["openai"]},
}


def start(*, calls: int, keys: list[str], seed: int) -> None:
    """Make a team for each key and start enough runs for so many calls. Prints what was started, as JSON."""
    chance = random.Random(seed)
    teams = [_make_team(number, key) for number, key in enumerate(keys, start=1)]
    wait_for_workers(teams)
    flows = [(flow, member) for team in teams for flow, member in _make_flows(team, chance)]
    runs, planned = 0, 0
    for flow, member in cycle(flows):
        if planned >= calls:
            break
        actions.run_flow(flow=flow, by=member, idempotency_key=uuid4().hex)
        runs, planned = runs + 1, planned + _calls_of(flow)
    print(json.dumps({"teams": len(teams), "flows": len(flows), "runs": runs, "calls": planned}))


def start_flows(*, keys: list[str], seed: int) -> None:
    """Make a team for each key whose flows fire each minute. Prints what was made, as JSON."""
    chance = random.Random(seed)
    teams = [_make_team(number, key) for number, key in enumerate(keys, start=1)]
    wait_for_workers(teams)
    flows = [each for team in teams for each in _make_flows(team, chance)]
    wish = Wish(cron="* * * * *", zone="UTC", overlap="allow", catch_up="all")
    for flow, member in flows:
        add_schedule(flow=flow, wish=wish, by=member)
    print(json.dumps({"teams": len(teams), "flows": len(flows)}))


# --- teams ------------------------------------------------------------------------------


def _make_team(number: int, key: str) -> Team:
    owner = User.objects.create_user(email=f"owner{number}@load.example", name=f"Owner {number}")
    team = create_team(name=f"Load {number}", owner=owner, at=app_now(), plan=Plan.objects.get(key="pro"))
    builder = User.objects.create_user(email=f"builder{number}@load.example", name=f"Builder {number}")
    Membership.objects.create(team=team, user=builder, role=Role.BUILDER)
    for kind, period, mode, limit in CAPS:
        Cap.objects.create(
            team=team, kind=kind, period=period, mode=mode, limit_usd=limit, created_by=owner, created_at=app_now()
        )
    set_policy(team=team, holder=team.pk, name="the team", rules=read_rules(FLOOR), by=owner)
    connection = connect(
        team=team, integration=get_integration("openrouter"), label="Main", kind="api_key", posted=key, by=owner
    )
    for persona in _make_personas(team, owner):
        tools = [tool.name for tool in offered_tools(connection.provider)]
        enable_for(connection=connection, persona_id=persona.pk, tools=tools, by=owner)
    return team


def _make_personas(team: Team, owner: User) -> Iterator[Persona]:
    for name, chain in CHAINS.items():
        yield actions.create_persona(
            team=team,
            by=owner,
            name=name,
            purpose="Answers under load",
            instructions="Answer in one short sentence.",
            chain=list(chain),
            max_tokens=MOST_TOKENS,
        )


def wait_for_workers(teams: list[Team]) -> None:
    """Wait until a worker adopted the keys and read the catalog: without prices no cap lets anything pass."""
    deadline = time.monotonic() + SECONDS_TO_ADOPT
    waiting = Connection.objects.filter(team__in=teams).exclude(state=Connection.State.READY)
    while waiting.exists() or not catalog.current().is_known:
        if time.monotonic() > deadline:
            raise TimeoutError("No worker adopted the keys or read the catalog.")
        time.sleep(0.1)


# --- flows ------------------------------------------------------------------------------


def _make_flows(team: Team, chance: random.Random) -> Iterator[tuple[Flow, User]]:
    personas = list(team.personas.order_by("name"))
    members = [membership.user for membership in team.memberships.select_related("user").order_by("created_at")]
    for number in range(FLOWS_PER_TEAM):
        length = MAX_STAGES if number == 0 else chance.randint(1, MAX_STAGES)
        flow = flow_actions.create_flow(
            team=team,
            by=members[0],
            name=f"Flow {number + 1}",
            purpose="",
            stage_list=list(_stages(length, personas, chance)),
        )
        yield flow, members[number % len(members)]


def _stages(length: int, personas: list[Persona], chance: random.Random) -> Iterator[dict[str, Any]]:
    earlier: list[str] = []  # never a combined one: outputs that repeat outputs grow without end
    for number, persona in zip(range(length), _any_of(personas, chance), strict=False):
        name = f"stage_{number + 1}"
        kind = chance.choices(["prompt", "ask", "read", "combine"], [5, 1, 2, 2])[0] if earlier else "prompt"
        said = " ".join(f"{{{{ stage.{before}.output }}}}" for before in earlier[-2:])
        yield {"name": name, **_STAGES[kind](persona, said, chance)}
        if kind in ("prompt", "ask"):
            earlier.append(name)


def _any_of(personas: list[Persona], chance: random.Random) -> Iterator[Persona]:
    for _ in count():
        yield chance.choice(personas)


def _prompt(persona: Persona, said: str, chance: random.Random) -> dict[str, Any]:
    text = f"At {{{{ input.time }}}}: what follows from this? {said}"
    own = chance.choice(list(CHAINS.values())) if chance.random() < 0.3 else []
    return {"kind": "prompt", "persona": str(persona.pk), "template": text, "chain": own}


def _ask(persona: Persona, said: str, chance: random.Random) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Say it shorter: {said}"}]
    model = CHAINS[chance.choice(list(CHAINS))][-1]
    tool, limit = chance.choice([("create_chat_completion", "max_completion_tokens"), ("create_message", "max_tokens")])
    arguments = {"model": model, "messages": messages, limit: MOST_TOKENS}
    return {"kind": "tool", "persona": str(persona.pk), "tool": tool, "arguments": arguments}


def _read(persona: Persona, said: str, chance: random.Random) -> dict[str, Any]:
    tool = chance.choice(list(READS))
    return {"kind": "tool", "persona": str(persona.pk), "tool": tool, "arguments": READS[tool]}


def _combine(persona: Persona, said: str, chance: random.Random) -> dict[str, Any]:
    return {"kind": "combine", "template": f"Until now: {said}"}


_STAGES = {"prompt": _prompt, "ask": _ask, "read": _read, "combine": _combine}


def _calls_of(flow: Flow) -> int:
    return sum(stage["kind"] != "combine" for stage in flow.version.stages)


# --- chats ---------------------------------------------------------------------------------

CHAT_MODEL = "openai/gpt-5.4-mini"
CHAT_TOOLS = ["create_chat_completion", "get_models_count", "get_current_key"]
ASKING_FOR_TOOLS = 4  # one turn in so many
TEXT = "Tell me at length how the tide comes in, number {number}."
TOOL_TEXT = "Please get_models_count {} and get_current_key {}"


def start_chats(*, chats: int, key: str) -> None:
    """Make a team whose owner speaks in so many chats at once. Prints its slug, the chats and a session, as JSON."""
    owner = User.objects.create_user(email="talker@load.example", name="Talker")
    team = create_team(name="Talking", owner=owner, at=app_now(), plan=Plan.objects.get(key="pro"))
    connection = connect(
        team=team, integration=get_integration("openrouter"), label="Main", kind="api_key", posted=key, by=owner
    )
    persona = actions.create_persona(team=team, by=owner, name="Talker", purpose="", chain=[CHAT_MODEL], max_tokens=400)
    enable_for(connection=connection, persona_id=persona.pk, tools=CHAT_TOOLS, by=owner)
    wait_for_workers([team])
    said = [
        sending.start_chat(
            team=team,
            persona=persona,
            by=owner,
            text=TOOL_TEXT if number % ASKING_FOR_TOOLS == 0 else TEXT.format(number=number),
            idempotency_key=uuid4().hex,
        )
        for number in range(chats)
    ]
    chats_begun = [str(message.chat_id) for message in said]
    print(json.dumps({"team": team.slug, "chats": chats_begun, "session": _session_of(owner)}))


def _session_of(user: User) -> str:
    """The key of a session in which this user is signed in."""
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    request.session.save()
    return request.session.session_key
