"""Flows for tests: their stages as JSON, a run of them, and what came of it."""

from uuid import uuid4

from accounts.models import Team
from audit.models import Content
from integrations.actions import enable_for
from personas import actions
from personas.execution import work
from personas.models import Persona, Run, StageRun
from tests.factories import owner_of
from tests.integrations.desk import Desk
from tests.personas.builders import make_flow, make_persona
from vault.content import open_content

MODEL = "openai/gpt-5.4"
CHAT = "/chat/completions"


def make_desk(sandbox, settings) -> Desk:
    """A team whose calls go to the sandbox."""
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox, balance=50)


def make_writer(desk: Desk, *, name: str = "Writer", tools: tuple[str, ...] = (), **what) -> Persona:
    """A persona of one model that may ask it, and use these tools."""
    persona = make_persona(desk.team, name=name, **({"chain": [MODEL]} | what))
    granted = ["create_chat_completion", *tools]
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=granted, by=desk.owner)
    return persona


def combine(name: str, template: str, **more) -> dict:
    return {"kind": "combine", "name": name, "template": template} | more


def prompt(persona: Persona, name: str = "ask", say: str = "tide", **more) -> dict:
    return {"kind": "prompt", "name": name, "persona": str(persona.pk), "template": f"Reply with exactly: {say}"} | more


def each(persona: Persona, over: str, name: str = "all", say: str = "{{ item }}", **more) -> dict:
    do = {"kind": "prompt", "persona": str(persona.pk), "template": f"Reply with exactly: {say}"}
    return {"kind": "each", "name": name, "over": over, "do": do, "at_once": 1} | more


def when(stage: str, test: str, value: str = "") -> dict:
    return {"when": {"stage": stage, "is": test, "value": value}}


def fault(status: int = 503, **more) -> dict:
    """A rule of the sandbox: the model fails so."""
    return {"match": {"model": MODEL, "path": CHAT}, "answer": {"kind": "status", "status": status} | more}


def start(team: Team, stages: list[dict], **more) -> Run:
    flow = make_flow(team, stages, name=f"Flow {uuid4().hex[:6]}")
    return actions.run_flow(flow=flow, by=owner_of(team), idempotency_key=uuid4().hex, **more)


def go(run: Run, owner: str = "test") -> str:
    """Have a worker take a run as far as it comes; the state it is in then."""
    work(run_id=run.pk, owner=owner)
    run.refresh_from_db()
    return run.state


def told(run: Run) -> dict[str, str]:
    """What each stage gave; the state of one that gave nothing."""
    return {stage.name: output_of(stage) or stage.state for stage in run.stages.filter(item=0)}


def items_of(run: Run, name: str = "all") -> list[StageRun]:
    return list(run.stages.filter(name=name, item__gt=0))


def output_of(stage: StageRun) -> str:
    if stage.state != StageRun.State.DONE:
        return ""
    return open_content(content=Content.objects.get(pk=stage.output_content_id)).decode()
