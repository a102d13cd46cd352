"""
One real object of a team for every id that a team's page takes from its address.

Key: the name of the URL's argument; where one name means several things, "<noun>.<argument>" with
the first word of the page's name. The value makes an object in the team and returns its id.
"""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from django.utils import timezone

from accounts.models import Invitation, Team
from accounts.permissions import Role
from integrations.actions import connect
from integrations.consenting import begin
from integrations.registry import get_integration
from personas.actions import run_flow
from personas.chat.uploads import take
from personas.models import Delivery
from personas.noticing import open_notice
from personas.triggers import add_webhook
from tests.audit.builders import make_call
from tests.factories import make_member, owner_of
from tests.integrations.caps import make_cap
from tests.integrations.questions import make_approval
from tests.personas.builders import make_flow, make_persona, make_schedule
from tests.personas.chat.builders import make_chat, make_turn

_number = count(1)


def a_membership(team: Team) -> UUID:
    member = make_member(team, Role.MEMBER)
    return team.memberships.get(user=member).pk


def an_invitation(team: Team) -> UUID:
    now = timezone.now()
    return Invitation.objects.create(
        team=team,
        role=Role.MEMBER,
        token_sha256=f"{next(_number):064x}",
        invited_by=owner_of(team),
        created_at=now,
        expires_at=now + timedelta(minutes=30),
    ).pk


def a_connection(team: Team) -> UUID:
    key = f"sk-or-v1-{next(_number):064x}"
    label = f"Connection {next(_number)}"
    by = owner_of(team)
    return connect(
        team=team, integration=get_integration("openrouter"), label=label, kind="api_key", posted=key, by=by
    ).pk


def a_consent(team: Team) -> UUID:
    label, by = f"Consent {next(_number)}", owner_of(team)
    return begin(team=team, integration=get_integration("openrouter"), label=label, by=by).pk


def a_persona(team: Team) -> str:
    return make_persona(team, name=f"Persona {next(_number)}").slug


def a_flow(team: Team) -> str:
    flow = make_flow(team, name=f"Flow {next(_number)}")
    make_schedule(flow)
    return flow.slug


def a_schedule(team: Team) -> UUID:
    """Of the newest flow: addresses name the flow first."""
    return team.schedules.latest("created_at").pk


def a_run(team: Team) -> UUID:
    flow = team.flows.get(slug=a_flow(team))
    return run_flow(flow=flow, by=owner_of(team), idempotency_key=f"run {next(_number)}").pk


def a_cap(team: Team) -> UUID:
    """One of a persona that is nobody else's, so that a team may have many."""
    return make_cap(team, kind="persona", subject=uuid4()).pk


def an_event(team: Team) -> UUID:
    started, _ = make_call(team)
    return started.pk


def an_approval(team: Team) -> UUID:
    return make_approval(team).pk


def a_notice(team: Team) -> UUID:
    about = f"flow:{uuid4()}"
    return open_notice(team_id=team.pk, kind="failed", about=about, name="Digest", text="No such model.").pk


def a_delivery(team: Team) -> UUID:
    run, now = team.runs.get(pk=a_run(team)), timezone.now()
    row = Delivery(team=team, run=run, kind="mail", user=owner_of(team), what="result", state="failed", created_at=now)
    row.save()
    return row.pk


def a_trigger(team: Team) -> UUID:
    trigger, _ = add_webhook(flow=make_flow(team, name=f"Flow {next(_number)}"), mapping={}, by=owner_of(team))
    return trigger.pk


def a_file(team: Team) -> UUID:
    """A document in a chat that is shared, so that every role finds it."""
    file = take(team=team, by=owner_of(team), name="harbour.pdf", data=b"%PDF-1.7")
    file.message = team.chats.get(pk=a_chat(team)).messages.earliest("created_at")
    file.save(update_fields=["message"])
    return file.pk


def a_chat(team: Team) -> UUID:
    """One that its member shares, so that every role finds it; its turn called a tool."""
    chat = make_chat(team, shared_at=timezone.now())
    make_turn(chat, tools=[{}])
    return chat.pk


def an_answer(team: Team) -> UUID:
    """Of the newest chat: addresses name the chat first."""
    return team.messages.filter(role="assistant").latest("created_at").pk


def a_tool_call(team: Team) -> UUID:
    """Of the newest chat."""
    return team.stage_runs.filter(kind="tool").latest("run__queued_at").pk


SAMPLES: dict[str, Callable[[Team], Any]] = {
    "membership_id": a_membership,
    "invitation_id": an_invitation,
    "connection_id": a_connection,
    "consent_id": a_consent,
    "persona.slug": a_persona,
    "console.slug": a_persona,
    "flow.slug": a_flow,
    "schedule.slug": a_flow,
    "schedule_id": a_schedule,
    "run_id": a_run,
    "event_id": an_event,
    "cap_id": a_cap,
    "file_id": a_file,
    "approval_id": an_approval,
    "notice_id": a_notice,
    "trigger_id": a_trigger,
    "delivery_id": a_delivery,
    "chat_id": a_chat,
    "message_id": an_answer,
    "stage_id": a_tool_call,
}

# Names that mean the same for every team, so that nobody's is foreign.
NOBODYS: dict[str, Any] = {
    "number": 1,
    "stage": 1,
    "start": "credit-watch",
    "integration": "openrouter",
    "tool": "get_credits",
    "plan_key": "pro",
    "pack_key": "pack-10k",
    "model_id": "openai/gpt-4o-mini",
}


def sample(page: str, argument: str, team: Team) -> Any:
    """Return a value of that argument which leads to something of the team's."""
    if argument in NOBODYS:
        return NOBODYS[argument]
    noun = page.partition("_")[0]
    make = SAMPLES.get(f"{noun}.{argument}") or SAMPLES[argument]
    return make(team)
