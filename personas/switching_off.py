"""Schedules that are switched off by themselves: those that cannot be fired, and those whose runs only fail."""

from audit.actions import Actor, record
from audit.clock import app_now
from personas.models import Notice, Run, Schedule
from personas.noticing import open_notice

HOPELESS = 5  # failed runs in a row (SCH-11)
ONLY_FAILS = f"Its last {HOPELESS} runs failed. The last one: {{}} Mend that, then switch it on again."


def switch_off(schedule: Schedule, why: str, by: str) -> None:
    """Pause a schedule that its caller has locked until a member resumes it, and tell. `by` is a part of ours."""
    end(schedule, why, by)
    open_notice(
        team_id=schedule.team_id,
        kind=Notice.Kind.PAUSED,
        about=f"schedule:{schedule.pk}",
        name=schedule.flow.name,
        text=schedule.paused_why,
    )


def end(schedule: Schedule, why: str, by: str = "dispatcher") -> None:
    """Pause a schedule that its caller has locked, for a reason that needs nobody's attention."""
    schedule.paused_at, schedule.paused_why = app_now(), why[:300]
    schedule.save(update_fields=["paused_at", "paused_why"])
    record(
        "personas.schedule.paused",
        at=schedule.paused_at,
        team_id=schedule.team_id,
        actor=Actor.system(by),
        target=f"schedule:{schedule.pk}",
        target_name=schedule.flow.name,
        details={"reason": schedule.paused_why},
    )


def after_run(run: Run, state: Run.State) -> None:
    """Switch off the schedule of a run that failed, as the ones before it did."""
    if state != Run.State.FAILED or run.firing is None:
        return
    finished = Run.objects.filter(firing__schedule=run.firing.schedule_id, finished_at__isnull=False)
    last = finished.order_by("-finished_at").values_list("state", flat=True)[:HOPELESS]
    if list(last) == [Run.State.FAILED] * HOPELESS:
        _switch_off_for(run)


def _switch_off_for(run: Run) -> None:
    # A dispatcher that holds the schedule may wait for this run: the next failure comes soon enough.
    free = Schedule.objects.active().select_for_update(skip_locked=True, of=("self",))
    schedule = free.select_related("flow").filter(pk=run.firing.schedule_id).first()
    if schedule:
        why = Run.objects.values_list("failure", flat=True).get(pk=run.pk)
        switch_off(schedule, ONLY_FAILS.format(why[:180]), "worker")
