"""What the frame around every page shows: team, switcher, navigation, plan. At most two queries, when asked."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from accounts.models import CreditAccount, Membership, Team
from accounts.permissions import Permission, Role

# title, then entries: label, name of the list page, icon, permission
NAV = [
    (
        "Build",
        [
            ("Personas", "persona_list", "persona", Permission.PERSONA_VIEW),
            ("Flows", "flow_list", "flow", Permission.FLOW_VIEW),
        ],
    ),
    (
        "Observe",
        [("Runs", "run_list", "run", Permission.RUN_VIEW), ("Audit log", "event_list", "audit", Permission.AUDIT_VIEW)],
    ),
    ("Connect", [("Integrations", "integration_list", "plug", Permission.CONNECTION_VIEW)]),
    (
        "Team",
        [
            ("Members", "member_list", "members", Permission.MEMBER_VIEW),
            ("Settings", "team_settings", "settings", Permission.TEAM_VIEW),
        ],
    ),
]


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the side bar."""

    label: str
    url: str
    icon: str
    current: bool


@dataclass(frozen=True, slots=True)
class NavGroup:
    """Entries under one heading."""

    title: str
    items: list[NavItem]


@dataclass(frozen=True, slots=True)
class PlanMeter:
    """Platform credits of this month. `used` counts what calls in flight hold."""

    plan: str
    used: int
    granted: int
    left: int
    resets_on: date

    @property
    def percent(self) -> int:
        return min(100, self.used * 100 // self.granted) if self.granted else 100

    @property
    def low(self) -> int:
        """From here on the meter is yellow."""
        return self.granted * 80 // 100

    @property
    def high(self) -> int:
        """From here on the meter is red."""
        return self.granted * 95 // 100


class Shell:
    """Lazy: a page that shows no frame asks the database nothing."""

    def __init__(self, request: HttpRequest):
        self.request = request

    @cached_property
    def memberships(self) -> list[Membership]:
        user = getattr(self.request, "user", None)
        if user is None or not user.is_authenticated:
            return []
        return list(user.memberships.select_related("team__plan").order_by("team__name", "team_id"))

    @property
    def teams(self) -> list[Team]:
        """The person's teams, for the switcher."""
        return [membership.team for membership in self.memberships]

    @cached_property
    def membership(self) -> Membership | None:
        """The membership the page is about; outside a team's pages, the one used last."""
        return getattr(self.request, "membership", None) or remembered(self.request, self.memberships)

    @property
    def team(self) -> Team | None:
        return self.membership and self.membership.team

    @property
    def role(self) -> str:
        """The role's name, as people read it."""
        return Role(self.membership.role).label if self.membership else ""

    @cached_property
    def nav(self) -> list[NavGroup]:
        groups = [NavGroup(title, self._items(entries)) for title, entries in NAV] if self.membership else []
        return [group for group in groups if group.items]

    @cached_property
    def plan(self) -> PlanMeter | None:
        if self.team is None:
            return None
        account = self.team.credit_accounts.order_by("-period").first() or CreditAccount(granted=0)
        used = account.reserved + account.spent
        return PlanMeter(self.team.plan.name, used, account.granted, account.left, _first_of_next_month())

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
        return NavItem(label, url, icon, current=self.request.path.startswith(url))


def shell(request: HttpRequest) -> dict[str, Shell]:
    """Context processor."""
    return {"shell": Shell(request)}


def remembered(request: HttpRequest, memberships: list[Membership]) -> Membership | None:
    """Return the membership of the team this session used last, or the first there is."""
    slug = request.session.get("team_slug") if hasattr(request, "session") else None
    used_last = [membership for membership in memberships if membership.team.slug == slug]
    return next(iter(used_last or memberships), None)


def _first_of_next_month() -> date:
    today = datetime.now(UTC).date()
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)
