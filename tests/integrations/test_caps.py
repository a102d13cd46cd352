import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Team
from audit.clock import app_now
from audit.ids import uuid7
from integrations import caps
from integrations.caps import CapReached, Demand, UnknownPrice
from integrations.models import Call, Cap, CapCounter, CapEntry
from tests.factories import make_team, owner_of
from tests.integrations.caps import counters, demands_of, hold, make_cap, release, settle, wrong_counters
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday


# --- refused ----------------------------------------------------------------------------


@pytest.mark.requirement("BUD-2")
def test_the_first_call_that_a_cap_ever_sees_is_limited_too():
    team = make_team()
    make_cap(team, "0.50")
    with pytest.raises(CapReached), transaction.atomic():
        hold(team, "0.51")
    assert counters(team) == []


def test_a_refusal_names_the_cap_what_is_left_when_it_resets_and_what_to_do():
    team = make_team()
    make_cap(team, "20")
    hold(team, "19.99", at=AT)
    with pytest.raises(CapReached) as refused, transaction.atomic():
        hold(team, "0.0312", at=AT)
    assert str(refused.value) == (
        "This call may cost $0.0312 and $0.01 is left under the team's cap of $20.00 a month. "
        "It starts anew on 1 December at 00:00 UTC. A shorter answer or a cheaper model may fit. "
        "An owner or admin can raise it on the Limits page."
    )
    assert (refused.value.needed, refused.value.left) == (Decimal("0.0312"), Decimal("0.01"))
    assert refused.value.resets_at == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.requirement("BUD-3")
@pytest.mark.parametrize("usd", [None, "NaN", "-NaN", "Infinity", "-Infinity", "-1", "-0.000000000001"])
def test_a_price_that_is_unknown_or_no_price_is_refused_under_any_cap(usd: str | None):
    team = make_team()
    make_cap(team, "99999999", mode="expected")
    with pytest.raises(UnknownPrice, match=r"What this call may cost at most is not known\. .* the team's cap"):
        hold(team, usd, expected_usd=Decimal("0.01"))
    assert counters(team) == []


@pytest.mark.requirement("BUD-3")
def test_a_price_nobody_knows_is_no_matter_where_no_cap_counts():
    team = make_team()
    make_cap(team, "1", kind="persona")
    hold(team, None)
    assert counters(team) == []


@pytest.mark.requirement("BUD-3")
def test_a_cap_of_nothing_allows_only_what_costs_nothing():
    team = make_team()
    make_cap(team, "0")
    hold(team, "0")
    with pytest.raises(CapReached), transaction.atomic():
        hold(team, "0.000000000001")


def test_less_than_the_smallest_amount_is_held_as_the_smallest_amount():
    team = make_team()
    make_cap(team, "1")
    hold(team, "0.0000000000001")
    assert counters(team) == [(Decimal("0.000000000001"), Decimal(0))]


def test_all_caps_hold_a_call_or_none_does():
    team, persona = make_team(), uuid4()
    make_cap(team, "10")
    make_cap(team, "1", kind="persona", period="day")
    hold(team, "0.9", persona_id=persona)
    with pytest.raises(CapReached, match=r"this persona's cap of \$1.00 a day"), transaction.atomic():
        hold(team, "0.2", persona_id=persona)
    assert counters(team) == [(Decimal("0.9"), 0), (Decimal("0.9"), 0)]
    assert CapEntry.objects.filter(team=team).count() == 2


def test_a_call_holds_once():
    team = make_team()
    make_cap(team, "10")
    call = hold(team, "1")
    with pytest.raises(IntegrityError, match="one_cap_reservation_per_call"), transaction.atomic():
        hold(team, "1", call=call)
    assert counters(team) == [(1, 0)]


# --- which caps count -------------------------------------------------------------------


def test_a_cap_counts_for_whom_it_names_and_a_cap_for_each_for_every_one():
    team, one, other, run = make_team(), uuid4(), uuid4(), uuid4()
    for kind in ("team", "member", "persona", "flow", "run"):
        make_cap(team, kind=kind)
    make_cap(team, "2", kind="persona", subject=one)
    make_cap(make_team(), "3")
    asked = demands_of(team, user_id=one, persona_id=one, flow_id=other, run_id=run)
    assert [(demand.kind, demand.subject, demand.limit_usd) for demand in asked] == [
        ("team", team.pk, 1),
        ("member", one, 1),
        ("persona", one, 1),
        ("persona", one, 2),
        ("flow", other, 1),
        ("run", run, 1),
    ]
    assert [demand.kind for demand in demands_of(team, persona_id=other)] == ["team", "persona"]


def test_every_subject_of_a_cap_for_each_has_a_counter_of_its_own():
    team, one, other = make_team(), uuid4(), uuid4()
    make_cap(team, "1", kind="persona")
    hold(team, "1", persona_id=one)
    hold(team, "1", persona_id=other)
    with pytest.raises(CapReached), transaction.atomic():
        hold(team, "0.1", persona_id=one)


def test_demands_say_how_their_counter_stands_in_this_period():
    team = make_team()
    make_cap(team, "5", period="week")
    settle(team, hold(team, "2"), "1.5")
    hold(team, "0.25")
    (demand,) = demands_of(team)
    assert (demand.reserved_usd, demand.spent_usd, demand.left) == (Decimal("0.25"), Decimal("1.5"), Decimal("3.25"))


def test_an_ended_cap_does_not_count():
    team = make_team()
    make_cap(team, ended_at=timezone.now(), ended_by=owner_of(team))
    assert demands_of(team) == ()


def test_asking_takes_one_query_and_opens_with_any_number_of_caps():
    team, persona = make_team(), uuid4()
    for kind in ("team", "member", "persona"):
        make_cap(team, kind=kind)
    with CaptureQueriesContext(connection) as asked:
        demands = demands_of(team, user_id=uuid4(), persona_id=persona)
    with CaptureQueriesContext(connection) as held:
        caps.hold(team_id=team.pk, demands=demands, usd=Decimal(1), call_id=uuid4(), at=AT)
    assert (len(asked), len(held)) == (1, 1)


# --- periods ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        ("day", date(2026, 11, 18), datetime(2026, 11, 19, tzinfo=UTC)),
        ("week", date(2026, 11, 16), datetime(2026, 11, 23, tzinfo=UTC)),
        ("month", date(2026, 11, 1), datetime(2026, 12, 1, tzinfo=UTC)),
        ("ever", date(1970, 1, 1), None),
    ],
)
def test_a_period_is_one_of_utc(period: str, begins: date, ends: datetime | None):
    late = AT.astimezone(UTC).replace(hour=23, minute=30)
    elsewhere = late.astimezone(timezone.get_fixed_timezone(120))  # the 19th there
    assert (caps.period_start(period, elsewhere), caps.resets_at(period, elsewhere)) == (begins, ends)


@pytest.mark.parametrize(("period", "passes"), [("day", 1), ("week", 7), ("month", 31)])
@pytest.mark.requirement("BUD-11")
def test_a_new_period_starts_at_nothing_and_an_older_call_is_settled_in_its_own(clock, period: str, passes: int):
    team = make_team()
    make_cap(team, "1", period=period)
    call = hold(team, "1")
    clock(days=passes)
    assert demands_of(team)[0].left == 1
    hold(team, "0.75")
    settle(team, call, "0.5")
    assert counters(team) == [(0, Decimal("0.5")), (Decimal("0.75"), 0)]


def test_a_day_that_begins_between_asking_and_holding_counts_as_it_is_when_holding(clock):
    team = make_team()
    make_cap(team, "1", period="day")
    hold(team, "1")
    before = demands_of(team)
    clock(days=1)
    hold(team, "1", demands=before)
    assert counters(team) == [(1, 0), (1, 0)]


def test_a_cap_for_ever_does_not_start_anew(clock):
    team, run = make_team(), uuid4()
    make_cap(team, "1", kind="run")
    hold(team, "1", run_id=run)
    clock(days=400)
    with pytest.raises(CapReached) as refused, transaction.atomic():
        hold(team, "0.01", run_id=run)
    assert "this run's cap of $1.00 in all" in str(refused.value)
    assert (refused.value.resets_at, "starts anew" in str(refused.value)) == (None, False)
    hold(team, "1", run_id=uuid4())


# --- caps that change -------------------------------------------------------------------


def test_a_cap_lowered_below_what_is_held_refuses_the_next_call_and_settles_the_one_under_way():
    team = make_team()
    cap = make_cap(team, "10")
    call, asked = hold(team, "8"), demands_of(team)
    Cap.objects.filter(pk=cap.pk).update(limit_usd=5)
    with pytest.raises(CapReached) as refused, transaction.atomic():
        hold(team, "0.01", demands=asked)  # as it is now, not as it was asked
    assert refused.value.left == 0
    settle(team, call, "7")
    assert counters(team) == [(0, 7)]


def test_what_costs_nothing_passes_under_a_cap_that_is_overdrawn():
    team = make_team()
    make_cap(team, "1")
    settle(team, hold(team, "1"), "3")
    hold(team, "0")
    assert counters(team) == [(0, 3)]


def test_a_cap_ended_in_the_middle_of_a_call_still_counts_that_call_and_no_other():
    team = make_team()
    cap = make_cap(team, "10")
    call, asked = hold(team, "8"), demands_of(team)
    Cap.objects.filter(pk=cap.pk).update(ended_at=timezone.now(), ended_by=owner_of(team))
    hold(team, "9", demands=asked)
    settle(team, call, "7")
    assert counters(team) == [(0, 7)]


# --- the end of a call ------------------------------------------------------------------


def test_a_call_is_settled_for_its_cost_under_every_cap():
    team, persona = make_team(), uuid4()
    make_cap(team, "10")
    make_cap(team, "10", kind="persona")
    call = hold(team, "2", persona_id=persona)
    assert settle(team, call, "0.000000012345") == 0
    assert counters(team) == [(0, Decimal("0.000000012345"))] * 2


def test_a_released_call_gives_back_what_it_held():
    team = make_team()
    make_cap(team, "10")
    release(team, hold(team, "2"))
    assert counters(team) == [(0, 0)]


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("second", ["settle", "release"])
def test_a_second_end_changes_nothing(first: str, second: str):
    team = make_team()
    make_cap(team, "10")
    call = hold(team, "2")
    hold(team, "3")
    end = {"settle": lambda: settle(team, call, "1"), "release": lambda: release(team, call)}
    end[first]()
    before = counters(team)
    end[second]()
    assert counters(team) == before
    assert CapEntry.objects.filter(team=team, call_id=call).count() == 2


def test_a_call_that_held_nothing_ends_without_a_trace():
    team = make_team()
    make_cap(team, "10")
    assert settle(team, uuid4(), "5") == 0
    assert counters(team) == []


def test_another_team_cannot_end_a_call():
    mine, theirs = make_team(), make_team()
    make_cap(theirs, "10")
    call = hold(theirs, "2")
    release(mine, call)
    assert counters(theirs) == [(2, 0)]


def test_a_cost_of_ten_times_what_was_held_is_charged_and_reported():
    team = make_team()
    make_cap(team, "1")
    assert settle(team, hold(team, "0.9"), "9") == Decimal("8.1")
    assert counters(team) == [(0, 9)]
    assert demands_of(team)[0].left == 0


@pytest.mark.requirement("BUD-3")
@pytest.mark.parametrize("cost", [None, "NaN", "Infinity", "-Infinity", "-0.5"])
def test_a_cost_that_is_none_never_lowers_what_was_held(cost: str | None):
    team = make_team()
    make_cap(team, "1")
    assert settle(team, hold(team, "0.9"), cost) == 0
    assert counters(team) == [(0, Decimal("0.9"))]


@pytest.mark.requirement("BUD-8")
@pytest.mark.parametrize("change", ["UPDATE integrations_capentry SET usd = 0", "DELETE FROM integrations_capentry"])
def test_the_lines_of_a_counter_refuse_to_be_rewritten(change: str):
    team = make_team()
    make_cap(team)
    hold(team, "1")
    with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


# --- expected costs ---------------------------------------------------------------------


def test_a_cap_that_expects_holds_what_such_calls_cost_and_a_strict_one_the_most():
    team, persona = make_team(), uuid4()
    make_cap(team, "10")
    make_cap(team, "10", kind="persona", mode="expected")
    call = hold(team, "2", persona_id=persona, expected_usd=Decimal("0.1"))
    assert sorted(counters(team)) == [(Decimal("0.1"), 0), (2, 0)]
    settle(team, call, "1")
    assert counters(team) == [(0, 1), (0, 1)]


@pytest.mark.parametrize("expected", [None, Decimal("NaN"), Decimal(-1), Decimal(3)])
def test_without_a_lower_expectation_the_most_is_held(expected: Decimal | None):
    team = make_team()
    make_cap(team, "10", mode="expected")
    hold(team, "2", expected_usd=expected)
    assert counters(team) == [(2, 0)]


def test_what_is_expected_is_what_19_of_20_calls_cost_at_most():
    team, persona = make_team(), uuid4()
    add_calls(team, persona, [Decimal(number) / 1000 for number in range(1, 21)])
    assert caps.usual_usd(team_id=team.pk, persona_id=persona, model="m") == Decimal("0.019")
    assert caps.usual_usd(team_id=team.pk, persona_id=persona, model="other") is None
    assert caps.usual_usd(team_id=team.pk, persona_id=None, model="m") is None
    assert caps.usual_usd(team_id=make_team().pk, persona_id=persona, model="m") is None


def test_too_few_or_too_old_calls_expect_nothing(clock):
    team, persona = make_team(), uuid4()
    add_calls(team, persona, [Decimal(1)] * 19)
    assert caps.usual_usd(team_id=team.pk, persona_id=persona, model="m") is None
    add_calls(team, persona, [Decimal(1)])
    assert caps.usual_usd(team_id=team.pk, persona_id=persona, model="m") == 1
    clock(days=31)
    assert caps.usual_usd(team_id=team.pk, persona_id=persona, model="m") is None


def add_calls(team: Team, persona: UUID, costs: list[Decimal]) -> None:
    connection_id, now = a_connection(team), app_now()
    Call.objects.bulk_create(
        Call(
            id=uuid7(),
            team=team,
            connection_id=connection_id,
            tool="create_chat_completion",
            state="done",
            actor_kind="system",
            actor_id="test",
            actor_name="test",
            persona_id=persona,
            model="m",
            request_sha256="0" * 64,
            cost_usd=cost,
            started_at=now,
            finished_at=now + timedelta(seconds=1),
        )
        for cost in costs
    )


# --- answers that fit -------------------------------------------------------------------


def demand(limit: str, *, mode: str = "strict", kind: str = "team") -> Demand:
    return Demand(uuid4(), kind, uuid4(), "month", mode, Decimal(limit), Decimal(0), Decimal(0))


def a_cent_and_a_tenth_each(tokens: int) -> Decimal:
    return Decimal("0.01") + tokens * Decimal("0.001")


def fit(demands: list[Demand], wanted: int, price: Callable = a_cent_and_a_tenth_each) -> int:
    return caps.fitting_tokens(demands, wanted=wanted, most_usd=price, at=AT)


def test_the_tightest_strict_cap_says_what_a_call_may_cost():
    assert caps.affordable([]) is None
    assert caps.affordable([demand("1", mode="expected")]) is None
    assert caps.affordable([demand("5"), demand("2"), demand("1", mode="expected")]) == 2


@pytest.mark.parametrize(("limit", "fits"), [("5", 4000), ("4.01", 4000), ("4.009", 3999), ("1", 990), ("0.074", 64)])
def test_an_answer_is_made_as_long_as_what_is_left_allows(limit: str, fits: int):
    assert fit([demand(limit), demand("9")], 4000) == fits


def test_less_than_64_tokens_are_refused_with_what_would_help():
    with pytest.raises(CapReached) as refused:
        fit([demand("9"), demand("0.05", kind="persona")], 4000)
    assert str(refused.value) == (
        "$0.05 is left under this persona's cap of $0.05 a month, and even an answer of 64 tokens may cost $0.074. "
        "It starts anew on 1 December at 00:00 UTC. A cheaper model may fit. "
        "An owner or admin can raise it on the Limits page."
    )


def test_a_short_answer_that_was_wanted_short_is_fine():
    assert fit([demand("0.03")], 16) == 16


@pytest.mark.requirement("BUD-3")
def test_an_answer_without_a_price_fits_only_where_no_strict_cap_counts():
    assert fit([demand("1", mode="expected")], 4000, lambda tokens: None) == 4000
    with pytest.raises(UnknownPrice):
        fit([demand("1")], 4000, lambda tokens: None)


# --- many at once -----------------------------------------------------------------------


def at_once(callers: int, work: Callable[[], str]) -> Counter[str]:
    """Do the work in so many threads that start together; return how often it came out how."""
    together = threading.Barrier(callers)

    def caller() -> str:
        together.wait(30)
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(callers) as pool:
        return Counter(future.result() for future in [pool.submit(caller) for _ in range(callers)])


def try_to_hold(team: Team, demands: tuple[Demand, ...], usd: str) -> str:
    try:
        with transaction.atomic():
            hold(team, usd, demands=demands)
    except CapReached:
        return "refused"
    return "held"


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("BUD-1", "BUD-2")
def test_of_200_callers_at_once_exactly_the_50_that_a_cap_allows_pass():
    for _ in range(3):
        team = make_team()
        make_cap(team, "1")  # without a counter yet: the first callers make it together
        demands = demands_of(team)
        assert at_once(200, lambda team=team, demands=demands: try_to_hold(team, demands, "0.02")) == {
            "held": 50,
            "refused": 150,
        }
        assert counters(team) == [(1, 0)]
        assert CapEntry.objects.filter(team=team).count() == 50


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("BUD-1", "BUD-8")
def test_calls_that_hold_and_end_under_shared_caps_never_wait_in_a_circle_and_never_overspend():
    team, personas = make_team(), [uuid4() for _ in range(3)]
    make_cap(team, "0.60")
    make_cap(team, "0.30", kind="persona")
    make_cap(team, "0.40", kind="member", period="day")
    over: list[CapCounter] = []

    def call_again_and_again() -> str:
        choose = Random(threading.get_ident())
        for _ in range(15):
            demands = demands_of(team, user_id=personas[0], persona_id=choose.choice(personas))
            call_once(team, list(choose.sample(demands, len(demands))), choose)
            over.extend(overspent(team))
        return "ended"

    assert at_once(16, call_again_and_again) == {"ended": 16}
    assert over == []
    assert overspent(team) == []
    assert wrong_counters() == []


def overspent(team: Team) -> list[CapCounter]:
    rows = CapCounter.objects.filter(team=team).select_related("cap")
    return [row for row in rows if row.reserved_usd + row.spent_usd > row.cap.limit_usd]


def call_once(team: Team, demands: list[Demand], choose: Random) -> None:
    try:
        with transaction.atomic():
            call = hold(team, "0.05", demands=demands)
    except CapReached:
        return
    with transaction.atomic():
        if choose.random() < 0.5:
            release(team, call)
        else:
            settle(team, call, "0.01")


@pytest.mark.django_db(transaction=True)
def test_of_many_who_end_one_call_at_once_one_does():
    team = make_team()
    make_cap(team, "10")
    call = hold(team, "2")
    at_once(16, lambda: str(settle(team, call, "1")))
    assert counters(team) == [(0, 1)]
