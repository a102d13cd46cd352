"""What surrounds every page: the pages a member may go to, and the colour theme."""

from typing import NamedTuple

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from accounts.permissions import Permission, allows

THEMES = {"system", "light", "dark"}


class Page(NamedTuple):
    """A page in the sidebar. `also` are other first path parts under the team that belong to it."""

    label: str
    url_name: str
    icon: str
    permission: Permission
    also: tuple[str, ...] = ()


PAGES = {
    "Build": [
        Page("Personas", "persona_list", "persona", Permission.PERSONA_VIEW),
        Page("Flows", "flow_list", "flow", Permission.FLOW_VIEW),
    ],
    "Observe": [
        Page("Runs", "run_list", "run", Permission.RUN_VIEW),
        Page("Audit log", "event_list", "audit", Permission.AUDIT_VIEW),
    ],
    "Connect": [
        Page("Integrations", "integration_list", "plug", Permission.CONNECTION_VIEW, also=("connections",)),
    ],
    "Team": [
        Page("Members", "member_list", "members", Permission.MEMBER_VIEW),
        Page("Plan", "plan", "spend", Permission.PLAN_VIEW),
    ],
}


def _url(page: Page, slug: str) -> str | None:
    try:
        return reverse(page.url_name, args=[slug])
    except NoReverseMatch:
        return None


def _current(page: Page, url: str, path: str, slug: str) -> str:
    """Return aria-current: "page" on the page itself, "true" on the pages below it."""
    if path == url:
        return "page"
    below = (url, *(f"/t/{slug}/{part}/" for part in page.also))
    return "true" if path.startswith(below) else ""


def nav(request: HttpRequest) -> list[dict]:
    """Return the sidebar's groups: pages that exist and that this member's role may see."""
    team, membership = getattr(request, "team", None), getattr(request, "membership", None)
    if team is None or membership is None:
        return []

    def item(page: Page) -> dict | None:
        url = _url(page, team.slug) if allows(membership.role, page.permission) else None
        return url and {
            "label": page.label,
            "url": url,
            "icon": page.icon,
            "current": _current(page, url, request.path, team.slug),
        }

    groups = [{"title": title, "items": list(filter(None, map(item, pages)))} for title, pages in PAGES.items()]
    return [group for group in groups if group["items"]]


def theme(request: HttpRequest) -> str:
    """Return the colour theme: this browser's choice, or else the one in the person's account."""
    chosen = request.COOKIES.get("theme")
    if chosen not in THEMES:
        chosen = getattr(getattr(request, "user", None), "theme", None)
    return chosen if chosen in THEMES else "system"


def surroundings(request: HttpRequest) -> dict:
    """Context for every template: `nav` and `theme`."""
    return {"nav": nav(request), "theme": theme(request)}
