"""Events and sealed content for tests, in the past where that matters."""

from datetime import datetime, timedelta

from accounts.models import Team
from audit.actions import Actor, record
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Event
from vault.content import seal_content

OWNER = Actor("user", "0190c7f0-0000-7000-8000-000000000001", "owner@example.test")


def make_event(team: Team, action: str = "personas.persona.created", *, ago: float = 60, **fields) -> Event:
    """Write an event that happened `ago` seconds ago."""
    fields = {"actor": OWNER, "at": app_now() - timedelta(seconds=ago)} | fields
    return record(action, team_id=team.pk, **fields)


def make_call(team: Team, *, ago: float = 60, outcome: str = "done", **fields) -> tuple[Event, Event]:
    """Write the pair of events of one call, with its prompt and response sealed."""
    at = app_now() - timedelta(seconds=ago)
    call = {
        "call_id": uuid7(),
        "persona_id": uuid7(),
        "persona_name": "Reader",
        "tool": "create_chat_completion",
    } | fields
    prompt = sealed(team, "request", b'{"messages": [{"role": "user", "content": "What is a lease?"}]}', at)
    answer = sealed(team, "response", b'{"successful": true, "data": {"text": "A promise with an end."}}', at)
    started = make_event(team, "call.started", at=at, content=prompt, **call)
    finished = make_event(team, "call.finished", at=at + timedelta(seconds=1), content=answer, outcome=outcome, **call)
    return started, finished


def sealed(team: Team, kind: str, data: bytes, at: datetime):
    """Seal some text under the team's own key."""
    return seal_content(team_id=team.pk, subject=team.pk, kind=kind, data=data, at=at)
