"""
What triggers do: a request from outside, or the end of a run, becomes one run of a flow.

A request is only stored and answered; a worker does the work. An event that comes again has no effect.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from audit.clock import app_now
from integrations import signing
from integrations.signing import NotSigned
from integrations.strict_json import NotPlainJson, load_object
from personas import results
from personas.handing import NothingThere, handed
from personas.models import Run, Trigger, TriggerEvent
from personas.stages import BadInput
from personas.starting import start_run
from personas.triggers import secrets_of
from vault.errors import Unreadable

DEEPEST = 5  # runs that cause one another in a row
LONGEST_PROBLEM = 300


class NoSuchTrigger(Exception):
    """Nothing listens at this address."""


def find(address: str) -> Trigger:
    """Return what listens at an address, which is held against it in full. Raises NoSuchTrigger."""
    live = Trigger.objects.filter(paused_at=None, flow__archived_at=None, kind=Trigger.Kind.WEBHOOK)
    found = live.filter(address=address).select_related("team", "flow__version", "flow__team", "owner").first()
    if found is None or not address:
        raise NoSuchTrigger
    return found


def receive(*, trigger: Trigger, event: str, timestamp: str, signature: str, body: bytes) -> TriggerEvent:
    """
    Take a request: check its signature, then read it, then queue a run. The row says what came of it.

    The same event once more gives the row of the first time. Raises NotSigned; nothing is stored then.
    """
    now = app_now()
    signing.verify(_secrets(trigger, now), event=event, timestamp=timestamp, given=signature, body=body, now=now)
    try:
        return _take(trigger, event, load_object(body), trigger_kind=Run.Trigger.WEBHOOK)
    except NotPlainJson as problem:
        return _take(trigger, event, {}, trigger_kind=Run.Trigger.WEBHOOK, problem=str(problem))


def _secrets(trigger: Trigger, now: Any) -> list:
    try:
        found = secrets_of(trigger, now)
    except Unreadable:
        found = []
    if not found:
        raise NotSigned("Nothing can be checked here: make a new secret.")
    return found


def after_run(run: Run, state: Run.State) -> None:
    """Start what follows on a flow, in the transaction in which its run ends."""
    if run.flow_id is None or run.rehearsal or run.is_trial or state == Run.State.STOPPED:
        return
    wanted = Trigger.objects.filter(team_id=run.team_id, kind=Trigger.Kind.FLOW, after_id=run.flow_id, paused_at=None)
    wanted = wanted.filter(flow__archived_at=None, outcome__in=[state, Trigger.Outcome.ENDED])
    followers = list(wanted.select_related("team", "flow__version", "flow__team", "owner"))
    if not followers:
        return
    document, problem = _document(run, state), _too_deep(run)
    for trigger in followers:
        _take(trigger, str(run.pk), document, trigger_kind=Run.Trigger.FLOW, caused_by=run, problem=problem)


def _document(run: Run, state: Run.State) -> dict[str, str]:
    """What a run hands to those after it."""
    ended = Run.objects.values("title", "failure").get(pk=run.pk)
    return {
        "output": results.text_of(run) if state == Run.State.SUCCEEDED else "",
        "state": str(state),
        "failure": ended["failure"],
        "flow": ended["title"],
        "run": str(run.pk),
    }


def _too_deep(run: Run) -> str:
    above, depth = run.caused_by_id, 1
    while above and depth < DEEPEST:
        above, depth = _cause(above), depth + 1
    if depth >= DEEPEST:
        return f"Not started: {DEEPEST} runs in a row had started one another."
    return ""


def _cause(run_id: UUID) -> UUID | None:
    return Run.objects.values_list("caused_by_id", flat=True).get(pk=run_id)


def _take(
    trigger: Trigger,
    event: str,
    document: Mapping[str, Any],
    *,
    trigger_kind: str,
    problem: str = "",
    caused_by: Run | None = None,
) -> TriggerEvent:
    """Write an event down, with its run or why there is none. One that is there already is returned as it is."""
    try:
        with transaction.atomic():
            row = TriggerEvent.objects.create(team=trigger.team, trigger=trigger, event=event, at=app_now())
            if not problem:
                problem = _start(row, document, trigger_kind, caused_by)
            row.problem = problem[:LONGEST_PROBLEM]
            row.save(update_fields=["run", "problem"])
            return row
    except IntegrityError as error:
        if error.__cause__.diag.constraint_name != "one_trigger_event_per_id":
            raise
        return TriggerEvent.objects.get(team=trigger.team, trigger=trigger, event=event)


def _start(row: TriggerEvent, document: Mapping[str, Any], kind: str, caused_by: Run | None) -> str:
    """Queue the run of an event; return why not, if it cannot be."""
    trigger = row.trigger
    try:
        inputs = handed(trigger.mapping, document)
        row.run = start_run(flow=trigger.flow, user=trigger.owner, trigger=kind, inputs=inputs, caused_by=caused_by)
    except (NothingThere, BadInput) as problem:
        return str(problem)
    Trigger.objects.filter(pk=trigger.pk).update(last_at=row.at)
    return ""
