"""What is posted to a webhook of the team: through the one way to call a tool, so it is bounded, charged and logged."""

from collections.abc import Mapping
from typing import Any

from accounts.credits import OutOfCredits
from accounts.models import User
from audit.actions import Actor
from integrations.approvals import NeedsApproval
from integrations.calls import REFUSALS, Caller, call_tool
from integrations.errors import UpstreamError
from integrations.pace import TooManyCalls
from personas.models import Delivery

TOOL = "deliver"
LATER = (TooManyCalls, OutOfCredits)  # time alone may heal these


class NotSent(Exception):
    """It could not be sent now; the message says why, `after` in how many seconds to try again at the earliest."""

    def __init__(self, message: str, after: float = 0) -> None:
        self.after = after
        super().__init__(message)


class NeverToBeSent(Exception):
    """It is not to be sent any more; the message says why."""


def post(row: Delivery, *, event: str, data: Mapping[str, Any], by: User) -> None:
    """
    Post an event to the webhook of a delivery, with the rights of `by`. All its tries have one webhook-id.

    So what may have arrived is sent again: a receiver knows it by its id. Raises NotSent and NeverToBeSent.
    """
    caller = Caller(
        user=by,
        actor=Actor.user(by),
        flow_id=row.run.flow_id if row.run else None,
        run_id=row.run_id,
        stage_id=row.pk,
        attempt=row.tries,
        unattended=True,
    )
    told = {"event": event, "data": dict(data)}
    try:
        call_tool(team=row.team, connection=row.connection, tool=TOOL, arguments=told, caller=caller)
    except LATER as refusal:
        raise NotSent(str(refusal)) from refusal
    except NeedsApproval as refusal:
        raise NeverToBeSent("A policy asks for an approval of each delivery. Use a stage of the flow.") from refusal
    except REFUSALS as refusal:
        raise NeverToBeSent(str(refusal)) from refusal
    except UpstreamError as failure:
        if failure.retryable or failure.may_have_acted:
            raise NotSent(failure.message, failure.retry_after or 0) from failure
        raise NeverToBeSent(failure.message) from failure
