"""What a lost call took, asked of the provider's own record of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection as database

from accounts.models import Plan
from integrations import metering
from integrations.bookkeeping import Caller, Ending, close_call
from integrations.calls import REFUSALS, call_tool
from integrations.errors import Unreachable, UpstreamError
from integrations.models import Call

PATIENCE = timedelta(hours=24)  # an older call stays unknown until a person names what it took
AT_ONCE = 100

# Taking a call puts its next turn off, so two sweepers never take it twice: some seconds while
# somebody may still look at it, then a minute at first, half its age later on.
TAKE = """
UPDATE integrations_call call
   SET settle_at = app_now() + CASE WHEN call.finished_at > app_now() - interval '20 seconds'
                                    THEN interval '5 seconds'
                                    ELSE greatest(interval '1 minute', (app_now() - call.started_at) / 2) END
  FROM (
    SELECT due.id, due.started_at FROM integrations_call due
      JOIN integrations_connection connection ON connection.id = due.connection_id
     WHERE due.state = 'unknown' AND due.generation_id <> '' AND connection.state <> 'revoked'
       AND due.started_at > app_now() - %(patience)s
       AND (due.settle_at IS NULL OR due.settle_at <= app_now())
     ORDER BY due.started_at
     LIMIT %(most)s
       FOR UPDATE OF due SKIP LOCKED
  ) taken
 WHERE call.id = taken.id AND call.started_at = taken.started_at
RETURNING call.id
"""


def take_due() -> list[UUID]:
    """Return the unknown calls whose record is to be asked for now, and put their next turn off."""
    with database.cursor() as cursor:
        cursor.execute(TAKE, {"patience": PATIENCE, "most": AT_ONCE})
        return [row[0] for row in cursor.fetchall()]


def settle_unknown(*, call: Call) -> None:
    """
    Ask the provider what an unknown call took, and settle it; without an answer, leave it.

    The question is a call of its own, made by the installation. For workers. Repeating it is
    harmless.
    """
    bills = call.connection.provider.bills
    if bills is None:
        return
    try:
        asked = call_tool(
            team=call.team,
            connection=call.connection,
            tool=bills.tool,
            arguments=bills.arguments(call.generation_id),
            caller=Caller.system("sweeper"),
        )
    except (UpstreamError, *REFUSALS):
        return  # in the log by now, and asked again at its next turn
    ending = _ending(call, bills.facts(asked.answer.data))
    if ending is not None:
        close_call(call, ending)


def _ending(call: Call, known: Mapping[str, Any]) -> Ending | None:
    """The answer stays lost, so the call failed; what is known now is what it took. None while nothing is known."""
    facts = {**known, "message": "The answer was lost. What it took is known from the provider's own record."}
    if facts["cost_usd"] is None and facts["tokens_out"] is None:
        return None  # a record without either proves nothing, so what is held stays held
    outcome = Unreachable.outcome if call.outcome == "unknown" else call.outcome
    return Ending(Call.State.FAILED, outcome, _credits(call.team.plan, facts), facts=facts)


def _credits(plan: Plan, facts: Mapping[str, Any]) -> int:
    if not facts["cost_usd"] and not facts["tokens_out"]:
        return 0  # nothing was made and nothing billed
    return metering.price(plan, (facts["tokens_in"] or 0) + (facts["tokens_out"] or 0))
