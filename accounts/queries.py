"""Reads that several callers share."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from django.db.models import Count, FilteredRelation, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts.models import CreditAccount, CreditEntry, Invitation, Membership, OneTimeLink, Team, User
from accounts.permissions import Role, may_grant
from accounts.tokens import fingerprint
from audit.places import place, read_place

PAGE = LEDGER_PAGE = 50


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Lines of the ledger, the newest first, and the place of the last of them when older ones exist."""

    entries: list[CreditEntry]
    older: str


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """Some members or invitations, and the id of the last of them when more come after it."""

    rows: list
    after: str


def has_owner() -> bool:
    """Say whether anybody owns a team here."""
    return Membership.objects.filter(role=Role.OWNER).exists()


def memberships_of(user: User) -> QuerySet[Membership]:
    """
    Return a person's memberships with team and plan, in the order of the team switcher.

    Each says as `waiting_calls` how many calls of its team wait for somebody to decide.
    """
    waiting = Team.objects.filter(pk=OuterRef("team"), approvals__state="waiting")
    count = waiting.values("pk").annotate(count=Count("approvals")).values("count")
    memberships = user.memberships.select_related("team__plan").annotate(waiting_calls=Coalesce(Subquery(count), 0))
    return memberships.order_by("team__name", "team_id")


def member_page(*, team: Team, after: UUID | None = None) -> PeoplePage:
    """Return a page of a team's members by name, from after one of them; nobody's id means the first page."""
    found = team.memberships.select_related("user").order_by("user__name", "user__email")
    place = found.filter(pk=after).values_list("user__name", "user__email").first() if after else None
    if place:
        name, email = place
        found = found.filter(user__name__gte=name).exclude(user__name=name, user__email__lte=email)
    return _people_page(found)


def invitation_page(*, team: Team, after: UUID | None = None) -> PeoplePage:
    """Return a page of a team's open invitations, the newest first, from after one of them."""
    found = team.invitations.open().select_related("invited_by")
    place = team.invitations.filter(pk=after).values_list("created_at", flat=True).first() if after else None
    if place:
        found = found.filter(created_at__lte=place).exclude(created_at=place, pk__gte=after)
    return _people_page(found)


def _people_page(found: QuerySet) -> PeoplePage:
    rows = list(found[: PAGE + 1])
    return PeoplePage(rows[:PAGE], str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")


def live_links(*, purpose: OneTimeLink.Purpose, token: str, at: datetime) -> QuerySet[OneTimeLink]:
    """Return the links, one or none, that this token can still use."""
    return OneTimeLink.objects.filter(purpose=purpose, token_sha256=fingerprint(token), used_at=None, expires_at__gt=at)


def acceptable_invitation(*, token: str, at: datetime) -> Invitation | None:
    """Return the invitation that this token can still accept."""
    pending = Invitation.objects.pending(at).select_related("team", "invited_by")
    invitation = pending.filter(token_sha256=fingerprint(token)).first()
    return invitation if invitation and _inviter_still_may(invitation) else None


def _inviter_still_may(invitation: Invitation) -> bool:
    """An invitation is worth what its sender holds now, not what they held then."""
    sender = invitation.team.memberships.filter(user=invitation.invited_by_id, user__is_active=True).first()
    return sender is not None and may_grant(sender.role, invitation.role)


# --- platform credits -------------------------------------------------------------------


def account_of_month(*, team: Team, month: date) -> CreditAccount:
    """
    Return what a team may use in a month, named by its first day.

    A month's account opens with its first call, and a larger plan or another seat raises it when a
    call needs that: until then this is what the call would find. One query.
    """
    month_of = FilteredRelation("credit_accounts", condition=Q(credit_accounts__period=month))
    columns = ["id", "granted", "packs", "reserved", "spent"]
    rows = Team.objects.filter(pk=team.pk).annotate(month=month_of, seats=Count("memberships"))
    seats, *values = rows.values_list("seats", *[f"month__{column}" for column in columns]).get()
    facts = dict(zip(columns, values, strict=True)) if values[0] else {"granted": 0}
    account = CreditAccount(team=team, period=month, **facts)
    account.granted = max(account.granted, team.plan.grant_for(seats) + account.packs)
    return account


def ledger_page(*, account: CreditAccount, after: str = "") -> LedgerPage:
    """Return a month's lines, the newest first, from after a place; a place that is none means the newest."""
    found, after_this = account.entries.order_by("-at", "-id"), read_place(after)
    if after_this:
        at, id = after_this
        found = found.filter(at__lte=at).exclude(at=at, id__gte=id)
    entries = list(found[: LEDGER_PAGE + 1])
    more = len(entries) > LEDGER_PAGE
    return LedgerPage(
        entries[:LEDGER_PAGE], place(entries[LEDGER_PAGE - 1].at, entries[LEDGER_PAGE - 1].pk) if more else ""
    )
