"""Reading the log: by keyset, never by counting or skipping, so that the millionth page costs as much as the first."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from django.core import signing
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from psycopg.errors import QueryCanceled

from audit.canon import EPOCH
from audit.models import Content, Event

PAGE = 50
CHUNK = 1000
MOST_SECONDS = 2

# A list shows these. It never loads details, canonical bytes or which content belongs to an event.
LISTED = (
    "id",
    "at",
    "team_id",
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "target",
    "target_name",
    "outcome",
    "persona_id",
    "persona_name",
    "run_id",
    "tool",
    "model",
    "call_id",
    "cost_usd",
    "credits",
)
EXPORTED = (*LISTED, "generation_id", "request_sha256")
CALL_START = "call.started"
CALL_ENDS = ("call.finished", "call.settled")

Direction = Literal["older", "newer"]


class BadCursor(Exception):
    """This place in the log was made for another team or another filter, or by somebody else."""


class TooMuch(Exception):
    """The database gave up after two seconds. A narrower time range helps."""


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Which events of one team. Empty fields do not matter.

    `since` and `until` bound the time (until is exclusive). `span` names the range they came
    from, so that "the last 24 hours" stays one filter while time passes. `all_events` also
    lists the start of a call whose end is in the log.
    """

    team_id: UUID
    since: datetime | None = None
    until: datetime | None = None
    span: str = ""
    actor: str = ""
    persona: UUID | None = None
    tool: str = ""
    outcome: str = ""
    action: str = ""
    run: UUID | None = None
    call: UUID | None = None
    all_events: bool = False

    @property
    def key(self) -> str:
        """The same text for the same filter, now and on the next page."""
        same = replace(self, since=None, until=None) if self.span else self
        return repr(astuple(same))


@dataclass(frozen=True, slots=True)
class Page:
    """Up to 50 events, the newest first, and where to go from there."""

    events: list[Event]
    newer: str = ""
    older: str = ""


# --- one page ---------------------------------------------------------------------------


def event_page(given: Filter, *, cursor: str = "", direction: Direction = "older") -> Page:
    """
    Return the newest events of a filter, or those on one side of a cursor.

    Raises BadCursor, and TooMuch when it would take longer than two seconds.
    """
    place = _read_cursor(given, cursor) if cursor else None
    with _limited(MOST_SECONDS):
        found = list(_beside(_listed(given), place, direction)[: PAGE + 1])
    more, events = len(found) > PAGE, found[:PAGE]
    if direction == "newer":
        events.reverse()
    return Page(
        events,
        newer=_cursor(given, events[0]) if events and (more if direction == "newer" else cursor) else "",
        older=_cursor(given, events[-1]) if events and (more if direction == "older" else True) else "",
    )


def neighbours(given: Filter, event: Event) -> tuple[Event | None, Event | None]:
    """
    Return the events just newer and just older than this one under the same filter.

    Raises TooMuch when it would take longer than two seconds.
    """
    place = (event.at, event.pk)
    newer, older = (_beside(_listed(given), place, direction)[:1] for direction in ("newer", "older"))
    with _limited(MOST_SECONDS):
        found = list(newer.union(older, all=True))
    after = {(event.at, event.pk) > place: event for event in found}
    return after.get(True), after.get(False)


def _beside(events: QuerySet[Event], place: tuple[datetime, UUID] | None, direction: Direction) -> QuerySet[Event]:
    """Order events away from a place, without the place itself."""
    if direction == "newer":
        if place:
            events = events.filter(at__gte=place[0]).exclude(at=place[0], id__lte=place[1])
        return events.order_by("at", "id")
    if place:
        events = events.filter(at__lte=place[0]).exclude(at=place[0], id__gte=place[1])
    return events.order_by("-at", "-id")


def _listed(given: Filter) -> QuerySet[Event]:
    events = _matching(given).only(*LISTED)
    if given.all_events:
        return events
    ends = Event.objects.filter(call_id=OuterRef("call_id"), action__in=CALL_ENDS, at__gte=OuterRef("at"))
    return events.filter(~Q(action=CALL_START) | ~Exists(ends))


def _matching(given: Filter) -> QuerySet[Event]:
    """Only plain comparisons of columns, which row security can leave to an index."""
    conditions = {
        "at__gte": given.since,
        "at__lt": given.until,
        "actor_id": given.actor,
        "persona_id": given.persona,
        "tool": given.tool,
        "outcome": given.outcome,
        "action": given.action,
        "run_id": given.run,
        "call_id": given.call,
    }
    given_conditions = {name: value for name, value in conditions.items() if value}
    return Event.objects.filter(team_id=given.team_id, **given_conditions)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Let the database stop what takes longer."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TooMuch from error
        raise


# --- cursors ----------------------------------------------------------------------------


def _signer(given: Filter) -> signing.Signer:
    return signing.Signer(salt=f"audit.cursor:{given.key}")


def _cursor(given: Filter, event: Event) -> str:
    return _signer(given).sign_object([(event.at - EPOCH) // timedelta(microseconds=1), event.pk.hex])


def _read_cursor(given: Filter, cursor: str) -> tuple[datetime, UUID]:
    try:
        micros, id = _signer(given).unsign_object(cursor)
    except signing.BadSignature as error:
        raise BadCursor from error
    return EPOCH + timedelta(microseconds=micros), UUID(id)


# --- one event --------------------------------------------------------------------------


def find_event(*, team_id: UUID, event_id: UUID) -> Event | None:
    """Return one event of a team with everything the log holds about it."""
    return Event.objects.filter(team_id=team_id, pk=event_id).first()


def has_events(*, team_id: UUID) -> bool:
    """Say whether a team has any event at all."""
    return Event.objects.filter(team_id=team_id).exists()


def events_of_call(*, team_id: UUID, call_id: UUID) -> list[Event]:
    """Return what the log says of one call, in order: started, finished and perhaps settled."""
    return list(Event.objects.filter(team_id=team_id, call_id=call_id).order_by("at", "id"))


def contents_of(events: Sequence[Event]) -> list[Content]:
    """Return the sealed content of some events of one team, in their order, erased content included."""
    ids = [event.content_id for event in events if event.content_id]
    found = {row.pk: row for row in Content.objects.filter(team_id=events[0].team_id, pk__in=ids)}
    return [found[id] for id in ids if id in found]


# --- everything -------------------------------------------------------------------------


def exported_events(given: Filter) -> Iterator[Event]:
    """Return every event of a filter, the oldest first, both of a call's pair; little of it in memory at a time."""
    place, matching = None, _matching(given).only(*EXPORTED)
    while chunk := list(_beside(matching, place, "newer")[:CHUNK]):
        yield from chunk
        place = (chunk[-1].at, chunk[-1].pk)


def every_event(*, since: datetime | None) -> Iterator[Event]:
    """Return every event of the installation, the oldest first: for its operator, never for a page."""
    events = Event.objects.filter(at__gte=since) if since else Event.objects.all()
    return events.only(*EXPORTED).order_by("at", "id").iterator(chunk_size=CHUNK)
