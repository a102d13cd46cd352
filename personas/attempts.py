"""Getting one answer for a stage: one model after another, until one answers or routing gives up."""

import time
from dataclasses import dataclass
from typing import Any

from audit.actions import Actor
from integrations.calls import REFUSALS, Caller, CallResult, call_tool
from integrations.errors import NotReady, UpstreamError
from integrations.models import Connection
from personas.asking import Asked
from personas.leases import Lease, renew
from personas.models import Run, StageRun
from personas.queries import granted_connections
from personas.routing import Failure, GiveUp, Park, decide

POLL_EVERY = 2.0  # seconds between looks for a generation record


class StageFailed(Exception):
    """The stage cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Parked(Exception):
    """The stage must wait this many seconds for a rate limit."""

    seconds: float


def ask(
    run: Run,
    stage: StageRun,
    tool: str,
    arguments: dict[str, Any],
    chain: list[str],
    asked: Asked | None = None,
) -> tuple[CallResult, int]:
    """
    Call the tool with one model after another, as routing decides. Each try is a call of its own.

    `asked` is what somebody allowed, where the stage had to ask. Returns the answer and the place of
    its model in the chain. Raises Parked, NeedsApproval and StageFailed.
    """
    failures: list[Failure] = []
    while True:
        match decide(chain, failures):
            case Park(seconds):
                raise Parked(seconds)
            case GiveUp():
                raise StageFailed(_in_words(failures)) from failures[-1].error
            case attempt:
                model = {"model": attempt.model} if attempt.model else {}
                try:
                    return _call(run, stage, tool, arguments | model, asked), attempt.choice
                except REFUSALS as refusal:
                    raise StageFailed(str(refusal)) from refusal
                except UpstreamError as error:
                    failures.append(Failure(attempt.choice, error))
                    renew(Lease(run.pk, run.fence))  # whoever lost the run must not pay for another attempt


def _call(run: Run, stage: StageRun, tool: str, arguments: dict[str, Any], asked: Asked | None = None) -> CallResult:
    """Call once; a generation record that is not there yet is waited for, as its arguments allow."""
    begun = time.monotonic()
    while True:
        try:
            return call_tool(
                team=run.team,
                connection=asked.connection if asked else _connection(run, stage, tool),
                tool=tool,
                arguments=arguments,
                caller=_caller(run, stage),
            )
        except NotReady:
            # Only now: a call that was made had arguments that can be read.
            if time.monotonic() + POLL_EVERY > begun + _wait_for_record(arguments):
                raise
            time.sleep(POLL_EVERY)


def _wait_for_record(arguments: dict[str, Any]) -> float:
    """How many seconds a generation record is waited for."""
    return float(arguments.get("max_wait_seconds", 30)) if arguments.get("wait", True) else 0.0


def _connection(run: Run, stage: StageRun, tool: str) -> Connection:
    """The oldest of this persona's connections whose grant allows the tool; without one, the oldest."""
    connections = granted_connections(team=run.team, persona=stage.persona)
    granted = [(connection, allowed) for connection, allowed in connections if allowed]
    if not granted:
        raise StageFailed(f"{stage.persona.name} has no connection. Enable one on the persona's page.")
    return next((connection for connection, allowed in granted if tool in allowed), granted[0][0])


def _caller(run: Run, stage: StageRun) -> Caller:
    kind = "schedule" if run.by_schedule else "user"
    return Caller(
        user=run.user,
        actor=Actor(kind, str(run.user_id), run.user.email),
        persona_id=stage.persona_id,
        persona_name=stage.persona.name,
        flow_id=run.flow_id,
        run_id=run.pk,
        stage_id=stage.pk,
        unattended=run.by_schedule,
    )


def _in_words(failures: list[Failure]) -> str:
    last = failures[-1].error
    tried = f"After {len(failures)} attempts: " if len(failures) > 1 else ""
    return f"{tried}{last.message}"
