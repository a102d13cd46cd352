"""
The canary sweep: one life of a team, with planted secrets, and then a look into every sink.

Connect, lend, console, flow, failures in which the service echoes the key, invitation, sign-in,
export, revoke. Then: the log at DEBUG, every table, the broker, every page, mail, exports.
"""

import base64
import io
import json
import logging
import re
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.core import mail
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts.models import Team, User
from accounts.permissions import Role
from audit.models import Event
from definable.logs import JsonLines
from integrations import tasks
from integrations.models import Call, Connection
from personas import actions
from personas.execution import work
from personas.models import Cooldown, Flow, Persona, Run
from tests import broker
from tests.canaries import Canary, every_row
from tests.factories import make_member, make_team, make_user, owner_of
from tests.integrations.scripted import ScriptedServer, Step, answer, stream
from tests.integrations.upstream import chunk, error_body
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db(transaction=True)

TOOLS = ["create_chat_completion", "get_current_key", "get_credits"]
LINK = re.compile(r'(?:href|hx-get|action)="(/(?!static/)[^"#]*)"')
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The owner's first look meets every way in which a call failed; later ones show the same rows to others.
MOST_OF_A_KIND, SAMPLE = 3, 1
TIME = re.compile(r'^{"at": "[^"]{1,40}"')
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.0001}


class EchoingService(ScriptedServer):
    """A service that answers well, or tells everybody the key it was given."""

    def __init__(self, said: str) -> None:
        super().__init__([])
        self.said = said
        self.faults: deque[str] = deque()

    def _reply(self, connection) -> bool:
        request = self.seen[-1]
        self.replies = [self._decide(request.target, request.headers["authorization"].removeprefix("Bearer "))]
        return super()._reply(connection)

    def _decide(self, target: str, key: str) -> list[Step]:
        if not target.endswith("/chat/completions"):
            return answer({"data": {"label": "sk-or-v1-abc...xyz", "limit": None, "usage": 0, "is_free_tier": False}})
        echo = f"Incorrect API key: {key}, Authorization: Bearer {key}"
        match self.faults.popleft() if self.faults else "":
            case "401" | "400" | "403" | "500" as status:
                return answer(error_body(int(status), echo, {"raw": echo, echo: echo}), int(status))
            case "page":
                return answer(f"<html>{echo}</html>".encode(), 502, content_type="text/html")
            case "header":
                return answer(error_body(429, echo), 429, x_generation_id=key, retry_after=key, x_echo=key)
            case "stream":
                return stream(chunk("part of it"), error_body(502, echo, {"raw": echo}) | {"id": key})
            case "names":
                named = {"id": key, "model": key, "provider": key}
                return stream(chunk(self.said) | named, chunk(finish="stop", usage=USAGE) | named)
            case _:
                return stream(chunk(self.said), chunk(finish="stop", usage=USAGE))


FAULTS = ["401", "400", "403", "500", "page", "header", "stream", "names"]


@dataclass
class Life:
    """What was planted, and what every sink held afterwards."""

    key: Canary
    management: Canary
    password: Canary
    invitation: Canary
    roots: list[Canary]
    prompt: Canary
    said: Canary
    instructions: Canary
    team: Team
    sinks: dict[str, str] = field(default_factory=dict)

    @property
    def hidden(self) -> list[Canary]:
        """What nobody may find anywhere."""
        return [self.key, self.management, self.password, *self.roots]

    @cached_property
    def lines(self) -> str:
        """Every line of every sink once: most secrets are in none, and then one look is enough."""
        return "\n".join({line for text in self.sinks.values() for line in text.splitlines()})

    def holders(self, canary: Canary) -> list[str]:
        if not canary.found_in(self.lines):
            return []
        return sorted(name for name, text in self.sinks.items() if canary.found_in(text))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger says, from DEBUG up, as it is written and as it was handed in."""
    text = io.StringIO()
    written, raw = logging.StreamHandler(text), logging.StreamHandler(text)
    written.setFormatter(JsonLines())
    raw.setFormatter(logging.Formatter("%(message)s %(args)s"))
    before = logging.root.level
    logging.root.setLevel(logging.DEBUG)
    for handler in (written, raw):
        logging.root.addHandler(handler)
    yield text
    logging.root.setLevel(before)
    for handler in (written, raw):
        logging.root.removeHandler(handler)


@pytest.fixture
def life(log, settings) -> Life:
    """Live it, and look into every sink."""
    key, management, password, prompt, said, instructions = (secrets.token_hex(24) for _ in range(6))
    owner = make_user(password=password)
    lived = Life(
        key=Canary("API key", key[8:-4]),
        management=Canary("management key", management[8:-4]),
        password=Canary("password", password),
        invitation=Canary("invitation", "-"),
        roots=[Canary(f"root key {number}", text) for number, text in enumerate(root_keys())],
        prompt=Canary("prompt", prompt),
        said=Canary("model's answer", said),
        instructions=Canary("instructions", instructions),
        team=make_team(owner=owner),
    )
    client = Client()
    client.post(reverse("account_login"), {"login": owner.email, "password": password})
    assert client.session["_auth_user_id"] == str(owner.pk)
    with EchoingService(f"The answer is {said}") as service:
        settings.INTEGRATION_URLS = {"openrouter": service.url}
        lived.invitation = Canary("invitation", invite(client, lived.team))
        connect(client, lived.team, {"api_key": f"sk-or-v1-{key}", "management": f"sk-or-v1-{management}"})
        persona = lend(client, lived.team, instructions)
        run_console(client, lived.team, persona, prompt)
        run_flow(lived.team, owner, persona)
        fail_in_every_way(service, lived.team, owner, persona)
        lived.sinks |= pages("owner", client, most=MOST_OF_A_KIND) | readings(client, lived.team)
    lived.sinks |= exports(client, lived.team) | pages_of_others(lived.team)
    revoke(client, lived.team)
    lived.sinks |= pages("owner after the revocation", client, most=SAMPLE) | {
        f"table {name}": text for name, text in every_row().items()
    }
    lived.sinks |= {"log": log.getvalue(), "mail": "\n".join(sent.message().as_string() for sent in mail.outbox)}
    lived.sinks |= {"broker": broker.content(["calls", "control"]), "stream store": store_content()}
    lived.sinks = {name: distinct(text) for name, text in lived.sinks.items()}
    return lived


def distinct(text: str) -> str:
    """Every line of a text once, and of what differs in its time alone: the log says most things often."""
    return "\n".join({TIME.sub("", line): line for line in text.splitlines()}.values())


def root_keys() -> list[str]:
    """Every key of the installation's files, as they write it."""
    files = [settings.VAULT_ROOT_KEY_FILE, settings.VAULT_CONTENT_KEY_FILE]
    text = "".join(Path(file).read_text() for file in files)
    found = re.findall(r'"([A-Za-z0-9+/=_-]{40,})"', text)
    assert len(found) >= 2
    return found


# --- the life ---------------------------------------------------------------------------


def invite(client: Client, team: Team) -> str:
    page = client.post(reverse("member_invite", args=[team.slug]), {"email": "guest@example.test", "role": "member"})
    token = re.search(r"/invite/([\w-]+)/", page.content.decode())[1]
    Client().get(reverse("invitation_accept", args=[token]))
    return token


def connect(client: Client, team: Team, keys: dict[str, str]) -> None:
    url = reverse("connection_create", args=[team.slug, "openrouter"])
    for kind, key in keys.items():
        refused = client.post(url, {"label": "", "kind": kind, "key": key})  # the form comes back without it
        assert refused.status_code == 422
        client.post(url, {"label": f"Main {kind}", "kind": kind, "key": key})
        connection = Connection.objects.get(team=team, label=f"Main {kind}")
        tasks.test_connection(connection_id=str(connection.pk))
        connection.refresh_from_db()
        assert connection.state == Connection.State.READY
        client.post(url, {"label": f"Main {kind}", "kind": kind, "key": key})  # the name is taken


def lend(client: Client, team: Team, instructions: str) -> Persona:
    new = {"name": "Reader", "instructions": instructions, "model": "openai/gpt-5.4-mini", "max_tokens": "50"}
    client.post(reverse("persona_create", args=[team.slug]), new)
    persona = Persona.objects.get(team=team)
    connection = Connection.objects.get(team=team, label="Main api_key")
    client.post(
        reverse("persona_scopes", args=[team.slug, persona.slug, connection.pk]), {"do": "tick", "tools": TOOLS}
    )
    return persona


def run_console(client: Client, team: Team, persona: Persona, prompt: str) -> None:
    url = reverse("console_tool", args=[team.slug, persona.slug, "openrouter", "create_chat_completion"])
    posted = {"model": "openai/gpt-5.4-mini", "prompt": prompt, "once": uuid4().hex}
    response = client.post(url, posted)
    assert response.status_code == 302, response.content.decode()
    run = Run.objects.latest("queued_at")
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED
    assert team.runs.count() == 1


def run_flow(team: Team, owner: User, persona: Persona) -> None:
    stages = [
        {"kind": "prompt", "name": "ask", "persona": str(persona.pk), "template": "Say it"},
        {"kind": "combine", "name": "all", "template": "So: {{ stage.ask.output }}"},
    ]
    run = actions.run_flow(flow=make_flow(team, stages), by=owner, idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED


def fail_in_every_way(service: EchoingService, team: Team, owner: User, persona: Persona) -> None:
    for fault in FAULTS:
        before = Call.objects.filter(team=team).count()
        Cooldown.objects.filter(team=team).delete()  # each fault finds the model at peace
        service.faults.append(fault)
        run = actions.run_flow(flow=Flow.objects.get(team=team), by=owner, idempotency_key=uuid4().hex)
        work(run_id=run.pk, owner="test")
        service.faults.clear()
        assert Call.objects.filter(team=team).count() > before, fault
    ended = set(Call.objects.filter(team=team).values_list("state", flat=True))
    assert {"done", "failed"} <= ended


def revoke(client: Client, team: Team) -> None:
    for connection in Connection.objects.filter(team=team):
        client.post(reverse("connection_revoke", args=[team.slug, connection.pk]))
    assert not Connection.objects.live().filter(team=team).exists()


# --- the sinks --------------------------------------------------------------------------


def pages(who: str, client: Client, *, most: int) -> dict[str, str]:
    """Follow links as a reader would, so many of each kind, and keep what came: body, headers and cookies."""
    found: dict[str, str] = {}
    kinds: Counter[str] = Counter()  # pages that differ in ids and in what is asked of them
    waiting = deque(["/", "/nowhere/"])
    while waiting:
        address = waiting.popleft()
        kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|=[^&]*", "", address)
        kinds[kind] += 1
        if f"{who}: {address}" in found or kinds[kind] > most or "logout" in address:
            continue
        response = client.get(address, follow=True)
        text = response.getvalue().decode()
        found[f"{who}: {address}"] = f"{text} {dict(response.headers)} {response.cookies}"
        waiting.extend(link.replace("&amp;", "&") for link in LINK.findall(text))
    return found


def readings(client: Client, team: Team) -> dict[str, str]:
    """The entries of the console's call, opened with what was said in them."""
    run = Run.objects.filter(team=team).earliest("queued_at")
    events = Event.objects.filter(team_id=team.pk, run_id=run.pk, content_id__isnull=False)
    addresses = [reverse("event_detail", args=[team.slug, event.pk]) + "?content=1" for event in events]
    return {f"owner: {address}": client.get(address).content.decode() for address in addresses}


def pages_of_others(team: Team) -> dict[str, str]:
    """What a stranger, somebody signed out and an auditor see of the team's addresses."""
    outside, auditor = {"stranger": Client(), "signed out": Client()}, Client()
    outside["stranger"].force_login(owner_of(make_team()))
    auditor.force_login(make_member(team, Role.AUDITOR))
    found = pages("auditor", auditor, most=SAMPLE)
    for event in Event.objects.filter(team_id=team.pk):
        address = reverse("event_detail", args=[team.slug, event.pk]) + "?content=1"
        found |= {f"{who}: {address}": client.get(address).content.decode() for who, client in outside.items()}
    return found


def exports(client: Client, team: Team) -> dict[str, str]:
    found = {}
    for kind in ("csv", "jsonl"):
        response = client.post(reverse("event_export", args=[team.slug]) + "?range=any", {"format": kind})
        found[f"export {kind}"] = b"".join(response.streaming_content).decode()
        assert "call.finished" in found[f"export {kind}"]
    output = io.StringIO()
    call_command("audit_export", stdout=output)
    return found | {"export command": output.getvalue()}


def store_content() -> str:
    client = redis.Redis.from_url(settings.STREAM_URL)
    return "\n".join(str(client.dump(name)) for name in client.scan_iter())


# --- what must hold ---------------------------------------------------------------------


@pytest.mark.requirement("RED-1", "RED-5", "RED-8", "VAULT-1", "VAULT-10", "AUTH-7")
def test_no_sink_holds_what_it_should_not(life):
    """One life is enough for all of it: each takes seconds."""
    assert {"log", "mail", "broker", "table vault_credential", "export csv"} <= life.sinks.keys()
    assert len([name for name in life.sinks if name.startswith("owner:")]) > 40
    assert {canary.name: life.holders(canary) for canary in life.hidden if life.holders(canary)} == {}
    assert life.holders(life.invitation) == ["mail"]
    assert misplaced(life) == []
    assert unexpected_arguments(life) == []


def misplaced(life: Life) -> list[str]:
    """Sinks that hold a prompt or an answer and are not a page for those who may read it."""
    shown_by_permission = re.compile(r"(owner|owner after the revocation|auditor): .*(/runs/|content=1|/try/)")
    for canary, place in ((life.prompt, "content=1"), (life.said, "/runs/")):
        assert [name for name in life.holders(canary) if place in name] != [], f"{canary.name} is shown nowhere"
    # What a persona is told is its configuration: a column of its versions, and its team's pages.
    configured = [name for name in life.holders(life.instructions) if "/personas/" not in name]
    assert "table personas_personaversion" in configured
    holders = {*life.holders(life.prompt), *life.holders(life.said), *configured} - {"table personas_personaversion"}
    return [name for name in holders if not shown_by_permission.match(name)]


def unexpected_arguments(life: Life) -> list[dict]:
    """Arguments of messages that are more than the id of a row."""
    messages = [json.loads(line) for line in life.sinks["broker"].splitlines() if line.startswith("[[]")]
    arguments = [kwargs for _, kwargs, _ in messages]
    sent = {value for kwargs in arguments for value in kwargs.values()}
    assert {str(pk) for pk in life.team.runs.values_list("pk", flat=True)} <= sent
    ids = [{"run_id"}, {"connection_id"}, {"call_id"}]
    return [kwargs for kwargs in arguments if set(kwargs) not in ids or not UUID_TEXT.fullmatch(*kwargs.values())]


@pytest.mark.requirement("RED-1")
@pytest.mark.parametrize(
    "leak",
    [
        "{0}",
        "...{0}...",
        "{0[9]}{0[10]}{0[11]}{0[12]}{0[13]}{0[14]}{0[15]}{0[16]}{0[17]}",
    ],
)
def test_the_search_finds_a_piece(leak):
    canary = Canary("planted", secrets.token_hex(20))
    assert canary.found_in(leak.format(canary.text))
    assert not canary.found_in(leak.format(secrets.token_hex(20)))


@pytest.mark.requirement("RED-1")
def test_the_search_knows_every_spelling():
    canary = Canary("planted", "Käse & 'brot' " + secrets.token_hex(20))
    raw = canary.text.encode()
    spellings = [base64.b64encode(b"a" * n + raw).decode() for n in range(4)]
    spellings += [raw.hex(), raw.hex().upper(), quote(canary.text), json.dumps(canary.text), canary.text[::-1]]
    assert [spelling for spelling in spellings if not canary.found_in(spelling)] == []
