"""Dollar caps are set, changed and ended here, each with its log entry."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from integrations.dollars import in_dollars
from integrations.models import Cap


class CapExists(Exception):
    """There is a live cap for the same subject and period."""

    def __init__(self) -> None:
        super().__init__("There is a cap for this and this period already. Change that one instead.")


class CapEnded(Exception):
    """Somebody ended this cap first."""

    def __init__(self) -> None:
        super().__init__("This cap was ended meanwhile. Set a new one.")


def cap_sentence(*, name: str, limit_usd: Decimal, period: str) -> str:
    """Say what a cap allows: "Night Writer may spend at most $2.00 a day"."""
    return f"{name} may spend at most {in_dollars(limit_usd)} {Cap.Period(period).label}"


@transaction.atomic
def set_cap(
    *,
    team: Team,
    kind: str,
    subject: UUID | None,
    name: str,
    period: str,
    limit_usd: Decimal,
    mode: str,
    by: User,
    at: datetime,
) -> Cap:
    """
    Limit what a team, a member, a persona, a flow or a run may spend, from the next call on.

    `name` is what the subject is called in the log. Raises CapExists.
    """
    try:
        with transaction.atomic():
            cap = Cap.objects.create(
                team=team,
                kind=kind,
                subject=subject,
                period=period,
                limit_usd=limit_usd,
                mode=mode,
                created_by=by,
                created_at=at,
            )
    except IntegrityError:
        raise CapExists from None
    _record("cap.set", cap, name, by, at, {"limit_usd": str(limit_usd), "period": period, "mode": mode})
    return cap


@transaction.atomic
def change_cap(*, cap: Cap, name: str, limit_usd: Decimal, mode: str, by: User, at: datetime) -> None:
    """
    Give a cap another limit or another way of holding; what is held and spent stays. Raises CapEnded.

    A limit below what is held or spent refuses the next calls and stops none that is under way.
    """
    before = Cap.objects.live().select_for_update().filter(pk=cap.pk).first()
    if before is None:
        raise CapEnded
    Cap.objects.filter(pk=cap.pk).update(limit_usd=limit_usd, mode=mode)
    details = {"limit_usd": [f"{before.limit_usd.normalize():f}", str(limit_usd)], "mode": [before.mode, mode]}
    _record("cap.changed", cap, name, by, at, details)


@transaction.atomic
def end_cap(*, cap: Cap, name: str, by: User, at: datetime) -> None:
    """Stop counting a cap, from the next call on. Its lines stay. Raises CapEnded."""
    if not Cap.objects.live().filter(pk=cap.pk).update(ended_at=at, ended_by=by):
        raise CapEnded
    _record("cap.ended", cap, name, by, at, {"limit_usd": f"{cap.limit_usd.normalize():f}", "period": cap.period})


def _record(action: str, cap: Cap, name: str, by: User, at: datetime, details: dict) -> None:
    record(
        f"integrations.{action}",
        actor=Actor.user(by),
        team_id=cap.team_id,
        at=at,
        target=f"cap:{cap.pk}",
        target_name=name,
        details={"kind": cap.kind} | details,
    )
