"""Questions for a person, asked without a call path around them."""

from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.db import transaction

from accounts.models import Team
from audit.clock import app_now
from audit.ids import uuid7
from integrations import approvals
from integrations.actions import connect
from integrations.approvals import Question
from integrations.models import Approval, Connection
from integrations.openrouter.tools import OPENROUTER
from tests.factories import owner_of

CHAT = "create_chat_completion"
FIRST, SECOND = "openai/gpt-5-mini", "anthropic/claude-sonnet-4.6"
ARGUMENTS = {"model": FIRST, "messages": [{"role": "user", "content": "Sell the boat"}], "temperature": 0.7}
WAIT = timedelta(hours=72)

_number = count(1)


def make_connection(team: Team) -> Connection:
    """A connection that nobody has tested."""
    number = next(_number)
    key = f"sk-or-v1-{number:064x}"
    return connect(
        team=team, integration=OPENROUTER, label=f"Key {number}", kind="api_key", posted=key, by=owner_of(team)
    )


def make_question(team: Team, **given: Any) -> Question:
    """What a persona of a team's owner asks in some stage of some run."""
    if "connection_id" not in given:
        given["connection_id"] = make_connection(team).pk
    plain = {
        "team_id": team.pk,
        "tool": CHAT,
        "chain": (FIRST, SECOND),
        "user_id": owner_of(team).pk,
        "persona_id": uuid7(),
        "persona_name": "Broker",
        "flow_id": uuid7(),
        "run_id": uuid7(),
        "stage_id": uuid7(),
        "unattended": False,
        "arguments": ARGUMENTS,
        "most_credits": 8,
        "most_usd": Decimal("0.0125"),
    }
    return Question(**(plain | given))


@transaction.atomic
def asked(question: Question) -> Approval:
    """Ask it, as the worker does that parks a run."""
    now = app_now()
    return approvals.ask(question, at=now, expires_at=now + WAIT)


def make_approval(team: Team, **given: Any) -> Approval:
    """A question that waits for an answer."""
    return asked(make_question(team, **given))
