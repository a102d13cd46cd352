"""How long a model is left in peace: the table of (rest, event), and the rows that all workers share."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection as database
from hypothesis import given
from hypothesis import strategies as st

from integrations.actions import connect
from integrations.errors import (
    BadAnswer,
    EmptyAnswer,
    InvalidRequest,
    KeyRefused,
    ModelUnavailable,
    OutOfBalance,
    Overloaded,
    RateLimited,
    RefusedByPolicy,
    TimedOut,
    Unreachable,
)
from integrations.openrouter.tools import OPENROUTER
from personas import cooldown
from personas.cooldown import AWAKE, FIRST, LONGEST, Rest, after
from personas.models import Cooldown
from personas.resting import read_rests
from tests.factories import make_team, owner_of

NOW = datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
BUSY = Overloaded("busy", code=503)
LIMITED = RateLimited("slow down")
DAY_IS_USED_UP = {"headers": {"X-RateLimit-Limit": "50", "X-RateLimit-Reset": "1795478400000"}}
MINUTE_IS_USED_UP = {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Reset": "1795467660000"}}


def told(seconds):
    return RateLimited("slow down", retry_after=seconds)


def seconds(rest, now=NOW):
    return rest.seconds_left(now)


def one_after_another(*events):
    """The rest after these events, each long after the rest before it was over."""
    rest, now = AWAKE, NOW
    for event in events:
        now = (rest.until or now) + timedelta(seconds=1)
        rest = after(rest, event, now)
    return rest, now


# --- what counts, and what does not -----------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("our own bad request"),
        KeyRefused("our key"),
        OutOfBalance("our balance"),
        RefusedByPolicy("what we said"),
        ModelUnavailable("there is no such model"),
        Unreachable("the host", sent=False),
        TimedOut("we hung up"),
        RateLimited("never left", sent=False),
        EmptyAnswer("nothing"),
        BadAnswer("garbage"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error.message}",
)
def test_what_says_nothing_about_the_model_changes_nothing(error):
    before = Rest(NOW - timedelta(seconds=1), 2, "overloaded")
    assert after(before, error, NOW) == before


@pytest.mark.parametrize(
    ("events", "rests"),
    [
        ([told(40)], 40),
        ([told(0)], 1),
        ([told(6 * 3600)], LONGEST),
        ([LIMITED], 5),
        ([LIMITED] * 2, 10),
        ([LIMITED] * 3, 20),
        ([LIMITED] * 9, LONGEST),
        ([LIMITED] * 60, LONGEST),
        ([told(2)] * 3, 2),
        ([told(2)] * 5, 10),  # what it was told proved too short
        ([BUSY] * 2, 0),
        ([BUSY] * 3, 5),
        ([BUSY] * 5, 20),
        ([TimedOut("late", code=524)] * 3, 5),
        ([Overloaded("busy", retry_after=30)], 30),
        ([LIMITED, LIMITED, None], 0),
        ([LIMITED, LIMITED, None, LIMITED], 5),
        ([BUSY, BUSY, None, BUSY], 0),
    ],
)
def test_a_model_rests(events, rests):
    rest, now = one_after_another(*events)
    assert rest.seconds_left(now) == rests


def test_a_burst_of_calls_that_were_under_way_together_counts_once():
    rest = AWAKE
    for _ in range(20):
        rest = after(rest, LIMITED, NOW)
    assert (rest.failures, seconds(rest)) == (1, FIRST)


def test_a_later_word_puts_the_end_of_a_rest_off_but_never_forward():
    rest = after(after(AWAKE, told(40), NOW), told(5), NOW)
    assert seconds(rest) == 40
    assert seconds(after(rest, told(60), NOW)) == 60


# --- the day's number of free requests --------------------------------------------------


@pytest.mark.parametrize("metadata", [DAY_IS_USED_UP, {"limit_source": cooldown.DAILY}])
def test_the_day_of_free_requests_ends_at_midnight_for_every_free_model(metadata):
    error = RateLimited("used up", metadata=metadata, retry_after=10)
    assert cooldown.subject("a/b:free", error) == cooldown.ALL_FREE
    assert seconds(after(AWAKE, error, NOW)) == 3 * 3600


def test_the_minute_of_free_requests_concerns_one_model():
    error = RateLimited("free-models-per-day, says the text", metadata=MINUTE_IS_USED_UP, retry_after=10)
    assert cooldown.subject("a/b:free", error) == "a/b:free"
    assert seconds(after(AWAKE, error, NOW)) == 10


@pytest.mark.parametrize("headers", ["text", None, {"X-RateLimit-Reset": "soon"}, {"X-RateLimit-Reset": "9" * 5000}])
def test_hostile_metadata_is_no_day(headers):
    assert not cooldown.is_daily(RateLimited("x", metadata={"headers": headers}))


events = st.sampled_from([None, LIMITED, BUSY, told(0), told(2), told(700), told(10**6), KeyRefused("no")])


@given(st.lists(st.tuples(events, st.floats(0, 2000)), max_size=40))
def test_no_rest_is_ever_longer_than_the_longest_and_a_success_always_ends_it(history):
    rest, now = AWAKE, NOW
    for event, later in history:
        now += timedelta(seconds=later)
        before = rest
        rest = after(rest, event, now)
        assert 0 <= rest.seconds_left(now) <= LONGEST
        if event is not None:
            assert rest.seconds_left(now) >= before.seconds_left(now)
    assert after(rest, None, now) == AWAKE


# --- rows -------------------------------------------------------------------------------


@pytest.fixture
def line():
    team = make_team()
    key = "sk-or-v1-" + "0" * 64
    return connect(team=team, integration=OPENROUTER, label="Main", kind="api_key", posted=key, by=owner_of(team))


@pytest.mark.django_db
def test_a_rest_is_seen_by_every_worker_and_ended_by_a_success(line, clock):
    read_rests(connection=line, models=["a/b"]).note("a/b", told(30))
    mine = read_rests(connection=line, models=["a/b", "c/d"])
    changed = Cooldown.objects.get().changed_at
    assert mine.seconds_left("a/b", changed) == 30
    assert mine.seconds_left("c/d", changed) == 0
    mine.note("a/b", None)
    assert Cooldown.objects.get().until is None


@pytest.mark.django_db
def test_the_day_of_free_requests_is_seen_by_every_free_model(line):
    error = RateLimited("used up", metadata={"limit_source": cooldown.DAILY})
    read_rests(connection=line, models=[]).note("a/b:free", error)
    rests = read_rests(connection=line, models=["c/d:free", "c/d"])
    assert rests.seconds_left("c/d:free", NOW) > 0
    assert rests.seconds_left("c/d", NOW) == 0


@pytest.mark.django_db
def test_a_success_of_a_model_at_peace_writes_nothing(line, django_assert_num_queries):
    rests = read_rests(connection=line, models=["a/b"])
    with django_assert_num_queries(1):  # the time
        rests.note("a/b", None)
    assert not Cooldown.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_lose_an_event(line):
    both_have_read = threading.Barrier(8)

    def fail() -> None:
        rests = read_rests(connection=line, models=["a/b"])
        database.close()  # nobody holds a connection while waiting
        both_have_read.wait(timeout=10)
        rests.note("a/b", Overloaded("busy"))
        database.close()

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The third brings a rest; those of the same burst after it count no further.
    assert Cooldown.objects.get().failures == 3
