"""How things look and read on a page: icons, states, money, times. Values arrive as they are stored."""

import json
import re
import zlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django import template
from django.forms import BoundField
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from definable.markdown import render_markdown
from integrations.dollars import in_dollars

register = template.Library()

NOT_REPORTED = "not reported"
TRICKY = re.compile("[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


class State(NamedTuple):
    """How a state is shown: always a word and a shape beside the colour."""

    word: str
    icon: str
    tone: str
    motion: str = ""


STATES = {
    "queued": State("Queued", "queue", "idle"),
    "running": State("Running", "ring", "info", "spin"),
    "succeeded": State("Succeeded", "ok", "ok"),
    "fallback": State("Used fallback", "swap", "warn"),
    "moved": State("Moved", "swap", "info"),
    "approval": State("Waiting for approval", "clock", "warn"),
    "failed": State("Failed", "bad", "bad"),
    "stopped": State("Stopped", "stop", "idle"),
    "skipped": State("Skipped", "dash", "idle"),
    "blocked": State("Blocked", "block", "bad"),
    "paused": State("Paused", "pause", "idle"),
    "missed": State("Missed", "missed", "warn"),
    "withdrawn": State("Withdrawn by provider", "block", "idle"),
    # the same words again under the names that rows carry
    "waiting": State("Waiting", "queue", "idle"),
    "parked": State("Waiting", "clock", "warn"),
    "sent": State("Running", "ring", "info", "spin"),
    "done": State("Succeeded", "ok", "ok"),
    "unknown": State("Unknown", "unknown", "warn"),
    "started": State("Started", "ok", "ok"),
    "overlap": State("Skipped", "dash", "idle"),
    "replaced": State("Started instead", "swap", "ok"),
    # connections and credentials
    "pending": State("Testing", "ring", "info", "spin"),
    "ready": State("Ready", "ok", "ok"),
    "refused": State("Key refused", "bad", "bad"),
    "unreachable": State("Not reached yet", "unknown", "warn"),
    "unreadable": State("Cannot be read, reconnect", "bad", "bad"),
    "revoked": State("Revoked", "block", "idle"),
    # versions, people
    "draft": State("Draft", "edit", "idle"),
    "published": State("Published", "ok", "ok"),
    "active": State("Active", "ok", "ok"),
    "archived": State("Archived", "pause", "idle"),
    "invited": State("Invited", "mail", "info"),
    "expired": State("Expired", "missed", "idle"),
    "rehearsal": State("Rehearsal", "swap", "info"),
    "check_models": State("Check its models", "unknown", "warn"),
}


def _state(key: str) -> State:
    return STATES.get(str(key)) or State(str(key).replace("_", " ").capitalize(), "info", "idle")


# --- shapes -----------------------------------------------------------------------------


@register.simple_tag
def icon(name: str, extra: str = "") -> SafeString:
    """Draw one of our icons, the size of the text beside it. Decorative: words stand beside it."""
    return format_html(
        '<svg class="ico{}" aria-hidden="true"><use href="{}#{}"/></svg>',
        f" {extra}" if extra else "",
        static("icons.svg"),
        name,
    )


def initials(name: str) -> str:
    """Return two letters for a name: of its first two words, or its first two letters."""
    words = re.findall(r"\w+", str(name).split("@")[0])
    if len(words) > 1:
        return (words[0][0] + words[1][0]).upper()
    return (words[0][:2] if words else "?").upper()


@register.simple_tag
def seal(name: str, size: str = "") -> SafeString:
    """Draw the initials tile of a team, persona or person; one name always has one colour."""
    colour = zlib.crc32(str(name).encode()) % 8 + 1
    small = " seal-s" if size == "s" else ""
    return format_html('<span class="seal{} c{}" aria-hidden="true">{}</span>', small, colour, initials(name))


@register.simple_tag
def state(key: str, word: str = "") -> SafeString:
    """Show a state in a table or a line of text."""
    shown = _state(key)
    return format_html(
        '<span class="state t-{}">{}{}</span>', shown.tone, icon(shown.icon, shown.motion), word or shown.word
    )


@register.simple_tag
def badge(key: str, word: str = "") -> SafeString:
    """Show a state beside a heading."""
    shown = _state(key)
    return format_html(
        '<span class="badge is-{}">{}{}</span>', shown.tone, icon(shown.icon, shown.motion), word or shown.word
    )


@register.simple_tag
def control(field: BoundField) -> SafeString:
    """Draw a form field's control, dressed for its kind."""
    kind = field.widget_type
    dress = {"checkbox": "", "select": "select", "clearablefile": "file", "file": "file"}.get(kind, "input")
    own = field.field.widget.attrs.get("class", "")
    return field.as_widget(attrs={"class": f"{dress} {own}".strip()} if dress or own else None)


# --- numbers and money ------------------------------------------------------------------


@register.filter
def grouped(number: int | None) -> str:
    """Group a whole number: 3,412. Unknown is not zero."""
    return NOT_REPORTED if number is None else f"{int(number):,}"


register.filter("credits", grouped)


@register.filter
def tokens(number: int | None) -> str:
    """Write an exact number of tokens."""
    return NOT_REPORTED if number is None else f"{int(number):,} {'token' if number == 1 else 'tokens'}"


@register.filter
def share(limit: int | None, percent_of: int) -> int:
    """Return some percent of a limit, as whole numbers."""
    return (limit or 0) * percent_of // 100


@register.filter
def usd(amount: Decimal | None) -> str:
    """Write US dollars, as `integrations.dollars` does; text and floats count as what they say."""
    return NOT_REPORTED if amount is None else in_dollars(Decimal(amount))


@register.filter
def usd_exact(amount: Decimal | None) -> SafeString | str:
    """Write US dollars with the exact amount beside them, for hovering and for scripts."""
    if amount is None:
        return NOT_REPORTED
    exact = f"{Decimal(amount).normalize():f}"
    return format_html('<span data-value="{}" title="${} exactly">{}</span>', exact, exact, usd(amount))


@register.filter
def percent(ratio: Decimal | float | None) -> str:
    """Write a ratio (0.128 is 12.8%) with one decimal at most."""
    if ratio is None:
        return NOT_REPORTED
    return f"{Decimal(str(ratio)) * 100:.1f}".removesuffix(".0") + "%"


# --- time -------------------------------------------------------------------------------


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    """Write how long something took: 0.4 s, 12.4 s, 2 min 05 s, 1 h 12 min."""
    if seconds is None:
        return NOT_REPORTED
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if 0 < seconds < 0.05:
        return "<0.1 s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@register.filter
def duration_ms(milliseconds: int | None) -> str:
    """Write how long something took, given in milliseconds."""
    return duration(None if milliseconds is None else milliseconds / 1000)


def _distance(seconds: float) -> str:
    """Write a distance under a day: now, 5 min ago, in 3 h."""
    if abs(seconds) < 60:
        return "now"
    amount = f"{abs(seconds) // 60:.0f} min" if abs(seconds) < 3600 else f"{abs(seconds) // 3600:.0f} h"
    return f"{amount} ago" if seconds > 0 else f"in {amount}"


def when_text(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Write a moment as somebody in `zone` reads it at `now`: the nearer, the finer."""
    local, today, age = at.astimezone(zone), now.astimezone(zone), (now - at).total_seconds()
    if abs(age) < 24 * 3600:
        return f"{local:%H:%M}, {_distance(age)}"
    if local.year == today.year:
        return f"{local.day} {local:%b %H:%M}"
    return f"{local.day} {local:%b %Y}"


@register.filter
def when(at: datetime | None, never: str = "never") -> SafeString | str:
    """Write a moment in the person's zone; the title has it in full, in UTC as well."""
    if at is None:
        return never
    zone = timezone.get_current_timezone()
    local, utc = at.astimezone(zone), at.astimezone(ZoneInfo("UTC"))
    title = f"{local.day} {local:%b %Y %H:%M:%S} {zone}, {utc.day} {utc:%b %Y %H:%M:%S} UTC"
    text = when_text(at, timezone.now(), zone)
    return format_html('<time datetime="{}" title="{}">{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", title, text)


# --- text from outside ------------------------------------------------------------------


@register.filter
def json_pretty(value: object) -> str:
    """
    Write JSON to be read, as plain text that the template escapes.

    Characters that reorder or hide text are shown as escapes: what is read is what was sent.
    """
    return nothing_hidden(json.dumps(value, indent=2, ensure_ascii=False, default=str))


@register.filter
def nothing_hidden(text: str) -> str:
    """Show characters that reorder or hide text as escapes; the template escapes the rest."""
    return TRICKY.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@register.filter
def markdown(text: str) -> SafeString:
    """Render a model's Markdown; see definable/markdown.py for what it may contain."""
    return render_markdown(text)
