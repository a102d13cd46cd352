from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core import signing
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import queries
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Event
from audit.queries import BadCursor, Filter, TooMuch, event_page, exported_events, neighbours
from tests.audit.builders import make_call, make_event
from tests.factories import make_team

pytestmark = pytest.mark.django_db


def of(team, **conditions) -> Filter:
    return Filter(team.pk, **conditions)


def ids(events) -> list:
    return [event.pk for event in events]


def pages(given: Filter, direction: str = "older", cursor: str = "") -> Iterator[queries.Page]:
    """Follow the pager in one direction to its end."""
    while True:
        page = event_page(given, cursor=cursor, direction=direction)
        yield page
        cursor = getattr(page, direction)
        if not cursor:
            return


# --- pages ------------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=0, max_value=5), max_size=30))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_paging_shows_every_event_once_in_order_whatever_share_a_moment(monkeypatch, seconds):
    monkeypatch.setattr(queries, "PAGE", 4)
    team, now = make_team(), app_now()
    for ago in seconds:
        make_event(team, at=now - timedelta(seconds=ago))
    wanted = ids(sorted(Event.objects.filter(team_id=team.pk), key=lambda e: (e.at, e.pk), reverse=True))

    down = list(pages(of(team)))
    assert ids(event for page in down for event in page.events) == wanted
    assert all(len(page.events) <= 4 for page in down)
    if down[-1].newer:
        up = list(pages(of(team), "newer", down[-1].newer))
        assert ids(event for page in reversed(up) for event in page.events) == wanted[: -len(down[-1].events)]


def test_events_that_arrive_while_somebody_pages_move_nothing(monkeypatch):
    monkeypatch.setattr(queries, "PAGE", 2)
    team = make_team()
    old = [make_event(team, ago=ago) for ago in (40, 30, 20, 10)]
    first = event_page(of(team))
    make_event(team, ago=0)
    second = event_page(of(team), cursor=first.older)
    assert ids(first.events) + ids(second.events) == ids(reversed(old))


def test_one_page_is_fifty_events_with_an_older_one_behind_it():
    team = make_team()
    for ago in range(51):
        make_event(team, ago=ago)
    page = event_page(of(team))
    assert (len(page.events), page.newer, bool(page.older)) == (50, "", True)


def test_a_page_counts_nothing_skips_nothing_and_loads_no_content():
    team = make_team()
    make_event(team)
    with CaptureQueriesContext(connection) as captured:
        event_page(of(team))
    (listing,) = [query["sql"] for query in captured if "audit_event" in query["sql"]]
    assert listing.endswith("LIMIT 51")
    assert not [word for word in ("COUNT(", "OFFSET", "canon", "details", "content") if word in listing]


# --- filters ----------------------------------------------------------------------------


def test_every_filter_finds_what_it_names_and_nothing_else():
    team, person, run, call = make_team(), uuid7(), uuid7(), uuid7()
    special = {"persona": ("persona_id", person), "run": ("run_id", run), "call": ("call_id", call)}
    plain = {"tool": "get_credits", "outcome": "done", "action": "test.special"}
    wanted = make_event(team, "test.special", tool="get_credits", outcome="done", **dict(special.values()))
    make_event(team)
    for name, value in plain.items() | {(name, value) for name, (_, value) in special.items()}:
        assert ids(event_page(of(team, **{name: value})).events) == [wanted.pk], name


def test_filter_by_actor_and_time():
    team, now = make_team(), app_now()
    early, late = make_event(team, ago=100), make_event(team, ago=50)
    assert ids(event_page(of(team, actor=late.actor_id)).events) == [late.pk, early.pk]
    assert event_page(of(team, actor="somebody")).events == []
    assert ids(event_page(of(team, since=now - timedelta(seconds=70))).events) == [late.pk]
    assert ids(event_page(of(team, until=late.at)).events) == [early.pk]


def test_no_event_of_another_team_is_listed_exported_or_found():
    mine, theirs = make_team(), make_event(make_team())
    assert event_page(of(mine)).events == []
    assert list(exported_events(of(mine))) == []
    assert queries.find_event(team_id=mine.pk, event_id=theirs.pk) is None
    assert queries.events_of_call(team_id=mine.pk, call_id=theirs.call_id) == []


def test_a_finished_call_is_listed_once_and_an_open_one_by_its_start():
    team = make_team()
    _, finished = make_call(team, ago=30)
    open_call = make_event(team, "call.started", ago=10, call_id=uuid7())
    assert ids(event_page(of(team)).events) == [open_call.pk, finished.pk]
    assert len(event_page(of(team, all_events=True)).events) == 3


def test_export_holds_both_events_of_a_call_the_oldest_first(monkeypatch):
    monkeypatch.setattr(queries, "CHUNK", 2)
    team = make_team()
    pairs = [make_call(team, ago=ago) for ago in (300, 200, 100)]
    assert ids(exported_events(of(team))) == [event.pk for pair in pairs for event in pair]


def test_neighbours_stay_inside_the_filter():
    team = make_team()
    older, between, middle, newer = (
        make_event(team, tool=tool, ago=ago) for tool, ago in [("a", 40), ("b", 30), ("a", 20), ("a", 10)]
    )
    assert [event.pk for event in neighbours(of(team, tool="a"), middle)] == [newer.pk, older.pk]
    assert neighbours(of(team, tool="b"), between) == (None, None)


# --- cursors ----------------------------------------------------------------------------


@pytest.fixture
def cursor(monkeypatch):
    monkeypatch.setattr(queries, "PAGE", 1)
    team = make_team()
    make_event(team, ago=20), make_event(team, ago=10)
    return of(team, tool=""), event_page(of(team)).older


@pytest.mark.requirement("IN-10")
@pytest.mark.parametrize(
    "change",
    [
        {"team_id": uuid7()},
        {"tool": "get_credits"},
        {"persona": uuid7()},
        {"actor": "x"},
        {"all_events": True},
        {"span": "7d"},
        {"since": app_now},
    ],
)
def test_cursor_works_for_its_own_team_and_filter_only(cursor, change):
    given, text = cursor
    assert len(event_page(given, cursor=text).events) == 1
    change = {name: value() if callable(value) else value for name, value in change.items()}
    with pytest.raises(BadCursor):
        event_page(replace(given, **change), cursor=text)


@pytest.mark.requirement("IN-10")
@pytest.mark.parametrize("position", range(0, 90, 7))
def test_cursor_with_a_changed_character_is_refused(cursor, position):
    given, text = cursor
    changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
    with pytest.raises(BadCursor):
        event_page(given, cursor=changed)


@pytest.mark.parametrize("text", ["x", ":", "\0", "é" * 200, "W10:"])
def test_what_is_no_cursor_is_refused(cursor, text):
    with pytest.raises(BadCursor):
        event_page(cursor[0], cursor=text)


def test_what_is_signed_for_another_purpose_is_no_cursor(cursor):
    with pytest.raises(BadCursor):
        event_page(cursor[0], cursor=signing.dumps([1, "x"]))


def test_cursor_outlives_the_minute_in_a_relative_range(cursor):
    given, _ = cursor
    day = replace(given, span="24h", since=app_now() - timedelta(hours=24))
    text = event_page(day).older
    later = replace(day, since=day.since + timedelta(minutes=5))
    assert len(event_page(later, cursor=text).events) == 1


# --- limits -----------------------------------------------------------------------------


def test_a_search_that_takes_too_long_is_stopped(busy_log):
    with busy_log, pytest.raises(TooMuch):
        event_page(of(make_team()))


def test_neighbours_that_take_too_long_are_not_waited_for(busy_log):
    event = Event(id=uuid7(), at=app_now())
    with busy_log, pytest.raises(TooMuch):
        neighbours(of(make_team()), event)
