"""How long a team keeps what runs were given and gave. After that it is erased; the log keeps that it took place."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import AppNowOnce, app_now
from integrations.models import Approval, Call
from integrations.sweeping import one_by_one
from personas.models import Run, StageRun, TeamFlows, TriggerEvent
from vault.content import erase_contents

MOST_DAYS = 3650
AT_ONCE = 100  # runs of one transaction
ROUNDS = 10  # transactions of one team in a sweep
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Due:
    """What a rule would remove now."""

    runs: int
    events: int


def keep_days_of(team: Team) -> int | None:
    """For how many days a team keeps texts of runs; None: for ever."""
    return TeamFlows.objects.filter(team=team).values_list("keep_days", flat=True).first()


def what_goes(*, team: Team, days: int) -> Due:
    """Count what would be removed at once by keeping texts for so many days."""
    return Due(_runs(team.pk, days).count(), _events(team.pk, days).count())


def erased(*, team: Team) -> list[tuple[datetime, int]]:
    """When texts of how many runs were removed, the last first."""
    gone = team.runs.filter(erased_at__isnull=False).order_by().values("erased_at")
    rows = gone.annotate(count=Count("pk")).order_by("-erased_at")[:SHOWN]
    return [(row["erased_at"], row["count"]) for row in rows]


@transaction.atomic
def set_keep_days(*, team: Team, days: int | None, by: User) -> None:
    """Keep texts of runs for so many days after their end; None: for ever. What goes, goes within the hour."""
    rules, _ = TeamFlows.objects.select_for_update().get_or_create(team=team)
    before = rules.keep_days
    if before == days:
        return
    rules.keep_days = days
    rules.save(update_fields=["keep_days"])
    record(
        "personas.retention.set",
        team_id=team.pk,
        actor=Actor.user(by),
        target=f"team:{team.pk}",
        target_name=team.name,
        details={"before": before, "after": days},
    )


# --- erasing ----------------------------------------------------------------------------


def erase_due() -> None:
    """Remove what every team's rule says, in batches; what is left is for the next sweep."""
    one_by_one(TeamFlows.objects.filter(keep_days__isnull=False), _erase_of)


def _erase_of(rules: TeamFlows) -> None:
    for _ in range(ROUNDS):
        if not _erase_batch(rules.team_id):
            return


@transaction.atomic
def _erase_batch(team_id: UUID) -> bool:
    """Remove the texts of some runs, and the requests of triggers. Returns whether there may be more."""
    # Read and locked now: whoever lengthened it a moment ago is heard.
    days = TeamFlows.objects.select_for_update().get(team_id=team_id).keep_days
    if days is None:
        return False
    due = _runs(team_id, days).order_by("id").select_for_update(skip_locked=True, of=("self",))
    runs = list(due.values_list("pk", flat=True)[:AT_ONCE])
    events, _ = _events(team_id, days).delete()
    if not runs and not events:
        return False
    erase_contents(team_id=team_id, content_ids=set(_contents(team_id, runs)) - _still_used(team_id, runs))
    StageRun.objects.filter(team_id=team_id, run__in=runs).update(partial=None, partial_id=None)
    now = app_now()
    Run.objects.filter(pk__in=runs).update(erased_at=now, changes=Run.next_change())
    record(
        "personas.retention.erased",
        at=now,
        team_id=team_id,
        actor=Actor.system("worker"),
        target=f"team:{team_id}",
        details={"days": days, "runs": len(runs), "trigger_events": events},
    )
    return len(runs) == AT_ONCE


def _runs(team_id: UUID, days: int) -> QuerySet[Run]:
    """Those whose texts are older than that. Chats are not of them: a member keeps or deletes those."""
    over = Run.objects.outside_chats().filter(team_id=team_id, erased_at=None)
    return over.filter(finished_at__lt=AppNowOnce() - timedelta(days=days))


def _events(team_id: UUID, days: int) -> QuerySet[TriggerEvent]:
    return TriggerEvent.objects.filter(team_id=team_id, at__lt=AppNowOnce() - timedelta(days=days))


def _contents(team_id: UUID, runs: list[UUID]) -> Iterator[UUID]:
    """Everything sealed that these runs were given, asked, were answered and gave."""
    stages = StageRun.objects.filter(team_id=team_id, run__in=runs)
    calls = Call.objects.filter(team_id=team_id, run_id__in=runs)
    asked = Approval.objects.filter(team_id=team_id, run_id__in=runs)
    yield from _ids(Run.objects.filter(pk__in=runs).values_list("inputs_id"))
    yield from _ids(stages.values_list("input_content_id", "output_content_id"))
    yield from _ids(calls.values_list("request_content_id", "response_content_id"))
    yield from _ids(asked.values_list("arguments_content_id"))


def _still_used(team_id: UUID, runs: list[UUID]) -> set[UUID]:
    """What later runs took over from these: it goes with the last of them."""
    taken = StageRun.objects.filter(team_id=team_id, run__again_of__in=_line(team_id, runs), run__erased_at=None)
    taken = taken.exclude(run__in=runs)
    inputs = Run.objects.filter(team_id=team_id, erased_at=None, inputs_id__isnull=False).exclude(pk__in=runs)
    shared = inputs.filter(inputs_id__in=Run.objects.filter(pk__in=runs).values("inputs_id"))
    used = set(_ids(taken.values_list("input_content_id", "output_content_id")))
    return used | set(_ids(shared.values_list("inputs_id")))


def _line(team_id: UUID, runs: Iterable[UUID]) -> set[UUID]:
    """These runs and all that repeat them, or repeat those."""
    line, new = set(runs), set(runs)
    while new:
        repeats = Run.objects.filter(team_id=team_id, again_of__in=new).values_list("pk", flat=True)
        new = set(repeats) - line
        line |= new
    return line


def _ids(rows: Iterable[tuple[UUID | None, ...]]) -> Iterator[UUID]:
    return (id for row in rows for id in row if id)
