"""Tags that show runs. They read what the query brought and ask the database nothing."""

from datetime import datetime

from django import template
from django.utils.safestring import SafeString

from definable.templatetags import ui
from integrations.models import Approval
from personas.chains import Routing
from personas.ledger import Tried
from personas.models import Run, StageRun
from personas.stage_shown import what_it_does, why_skipped
from personas.timeline import Row

register = template.Library()


@register.simple_tag
def run_state(run: Run) -> SafeString:
    """
    Show a run's state; a success that needed a fallback says so, a wait for a person too.

    Needs its stages prefetched and its approval selected.
    """
    asks = run.state == Run.State.PARKED and any(stage.waits_for_decision for stage in run.stages.all())
    if asks or run.waits_for_approval:
        return ui.state("approval")
    if run.state == Run.State.SUCCEEDED and any(stage.used_fallback for stage in run.stages.all()):
        return ui.state("fallback")
    return ui.state(run.state)


APPROVALS = {
    Approval.State.WAITING: ("approval", ""),
    Approval.State.APPROVED: ("ready", "Allowed"),
    Approval.State.REFUSED: ("blocked", "Refused"),
    Approval.State.EXPIRED: ("expired", ""),
    Approval.State.WITHDRAWN: ("stopped", "Withdrawn"),
    Approval.State.USED: ("done", "Allowed and called"),
}


@register.simple_tag
def approval_state(approval: Approval) -> SafeString:
    """Show what became of an approval."""
    return ui.state(*APPROVALS[approval.state])


@register.simple_tag
def approval_badge(approval: Approval) -> SafeString:
    """Show what became of an approval, beside a heading."""
    return ui.badge(*APPROVALS[approval.state])


@register.simple_tag
def approval_dollars(approval: Approval) -> SafeString | str:
    """Say the most dollars that a call can cost. Needs its connection selected."""
    if approval.most_usd is not None:
        return ui.usd_exact(approval.most_usd)
    spends = approval.connection.provider.tool(approval.tool).hints.spends_money
    return "dollars not known" if spends else "no dollars"


@register.simple_tag
def stages_done(run: Run) -> str:
    """Say how far a run came, such as “2 of 3”. Needs its stages prefetched."""
    stages = [stage for stage in run.stages.all() if not stage.item]
    done = sum(stage.state == StageRun.State.DONE for stage in stages)
    return f"{done} of {len(stages)}"


@register.simple_tag
def stage_words(row: Row) -> str:
    """Say in a few words what a stage of a run asks or does. Needs who decided it selected."""
    return what_it_does(row)


@register.simple_tag
def skipped_words(stage: StageRun) -> str:
    """Say why a stage was skipped."""
    return why_skipped(stage)


@register.simple_tag
def took(start: datetime, end: datetime) -> str:
    """Say how long something took."""
    return ui.duration(end - start)


@register.simple_tag
def persona_name(names: dict[str, str], persona_id: str) -> str:
    """Say which persona a stage names."""
    return names.get(persona_id, "a persona that is gone")


PASSED_OVER = {"cooling_down": "Left in peace", "does_not_fit": "Does not fit", "not_chosen": "Not asked"}


@register.simple_tag
def attempt_state(step: Tried) -> SafeString:
    """Show what came of one step of the attempt ledger."""
    if step.attempt is None:
        return ui.state("running" if step.call.state == "sent" else "unknown")
    outcome = step.attempt.outcome
    if step.attempt.rehearsed:
        return ui.state("rehearsal")
    if step.call is None:
        return ui.state("skipped", PASSED_OVER[outcome]) if outcome in PASSED_OVER else ui.state("blocked", "Refused")
    if step.call.state in ("done", "unknown"):
        return ui.state(step.call.state)
    return ui.state("failed", outcome.replace("_", " ").capitalize())


@register.simple_tag
def routing_words(routing: str) -> str:
    """Say by which rule the first model of a stage is found."""
    return Routing(routing).label


@register.filter
def unlocalized(number: float) -> str:
    """Write a number for an SVG attribute."""
    return f"{number:g}"
