"""What the frame around every page shows: team, switcher, navigation, plan. At most two queries, when asked."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from accounts.models import Membership, Team
from accounts.permissions import Permission, Role
from accounts.queries import account_of_month, memberships_of
from audit.schema import next_month

# title, then entries: label, name of the list page, icon, permission
NAV = [
    (
        "Build",
        [
            ("Personas", "persona_list", "persona", Permission.PERSONA_VIEW),
            ("Flows", "flow_list", "flow", Permission.FLOW_VIEW),
            ("Chat", "chat_list", "chat", Permission.CHAT_VIEW),
            ("Approvals", "approval_list", "clock", Permission.APPROVAL_VIEW),
        ],
    ),
    (
        "Observe",
        [
            ("Runs", "run_list", "run", Permission.RUN_VIEW),
            ("Notices", "notice_list", "info", Permission.RUN_VIEW),
            ("Spend", "spend", "spend", Permission.SPEND_VIEW),
            ("Audit log", "event_list", "audit", Permission.AUDIT_VIEW),
        ],
    ),
    (
        "Connect",
        [
            ("Integrations", "integration_list", "plug", Permission.CONNECTION_VIEW),
            ("Models", "model_list", "model", Permission.CONNECTION_VIEW),
            ("Data retention", "retention", "shield", Permission.LIMIT_VIEW),
        ],
    ),
    (
        "Team",
        [
            ("Members", "member_list", "members", Permission.MEMBER_VIEW),
            ("Limits", "limit_list", "lock", Permission.LIMIT_VIEW),
            ("Plan", "plan", "calendar", Permission.PLAN_VIEW),
            ("Settings", "team_settings", "settings", Permission.SETTINGS_EDIT),
        ],
    ),
]


MOST_SHOWN = 99


@dataclass(frozen=True, slots=True)
class NavItem:
    """
    One entry of the side bar. `current` is what aria-current says: page, true or nothing.

    `count` is how many of something wait behind it, and `counted` says what of: empty when none do.
    """

    label: str
    url: str
    icon: str
    current: str
    count: str = ""
    counted: str = ""


@dataclass(frozen=True, slots=True)
class NavGroup:
    """Entries under one heading."""

    title: str
    items: list[NavItem]


@dataclass(frozen=True, slots=True)
class PlanMeter:
    """Platform credits of this month. `reserved` is what calls under way hold."""

    name: str
    spent: int
    reserved: int
    granted: int
    resets_on: date

    @property
    def used(self) -> int:
        return self.spent + self.reserved

    @property
    def left(self) -> int:
        return max(0, self.granted - self.used)


def shell(request: HttpRequest) -> dict[str, "Frame"]:
    """
    Context processor: `shell`, whose parts are looked up when a template asks.

    A page that shows no frame asks the database nothing; one that does asks twice at most.
    """
    return {"shell": Frame(request)}


class Frame:
    """What the frame of one page shows."""

    def __init__(self, request: HttpRequest):
        self.request = request

    @cached_property
    def memberships(self) -> list[Membership]:
        user = getattr(self.request, "user", None)
        return list(memberships_of(user)) if user and user.is_authenticated else []

    @cached_property
    def membership(self) -> Membership | None:
        """The membership the page is about; outside a team's pages, that of the team used last."""
        return getattr(self.request, "membership", None) or remembered(self.request, self.memberships)

    @property
    def team(self) -> Team | None:
        return self.membership and self.membership.team

    @property
    def teams(self) -> list[Team]:
        """The person's teams, for the switcher."""
        return [membership.team for membership in self.memberships]

    @property
    def role(self) -> str:
        return Role(self.membership.role).label if self.membership else ""

    @cached_property
    def nav(self) -> list[NavGroup]:
        groups = [NavGroup(title, self._items(entries)) for title, entries in NAV] if self.membership else []
        return [group for group in groups if group.items]

    @cached_property
    def plan(self) -> PlanMeter | None:
        if self.team is None:
            return None
        # The Plan page has looked it up already.
        account = getattr(self.request, "credit_account", None) or account_of_month(
            team=self.team, month=date_of_now().replace(day=1)
        )
        resets_on = next_month(account.period)
        return PlanMeter(self.team.plan.name, account.spent, account.reserved, account.granted, resets_on)

    def _items(self, entries: list[tuple]) -> list[NavItem]:
        items = [self._item(*entry) for entry in entries]
        return [item for item in items if item]

    def _item(self, label: str, name: str, icon: str, permission: Permission) -> NavItem | None:
        if not self.membership.allows(permission):
            return None
        try:
            url = reverse(name, args=[self.team.slug])
        except NoReverseMatch:  # a part that is not mounted has no entry
            return None
        return NavItem(label, url, icon, self._current(url), *self._waiting(name))

    def _waiting(self, name: str) -> tuple[str, str]:
        """How many calls wait for whoever may decide about them, and the words for it."""
        if name != "approval_list" or not self.membership.allows(Permission.APPROVAL_DECIDE):
            return "", ""
        found = next((mine.waiting_calls for mine in self.memberships if mine.team_id == self.team.pk), 0)
        return (str(found) if found <= MOST_SHOWN else f"{MOST_SHOWN}+", "waiting") if found else ("", "")

    def _current(self, url: str) -> str:
        if self.request.path == url:
            return "page"
        return "true" if self.request.path.startswith(url) else ""


def remembered(request: HttpRequest, memberships: list[Membership]) -> Membership | None:
    """Return the membership of the team this session used last, or the first there is."""
    slug = request.session.get("team_slug") if hasattr(request, "session") else None
    used_last = [membership for membership in memberships if membership.team.slug == slug]
    return next(iter(used_last or memberships), None)


def date_of_now() -> date:
    """Return today's date in UTC, in which platform credits are counted."""
    return datetime.now(UTC).date()
