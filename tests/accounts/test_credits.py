import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.db.models import Max, Min, Sum

from accounts import credits
from accounts.credits import NotHeld, OutOfCredits, Reservation
from accounts.models import CreditAccount, CreditEntry, Pack, Plan, Team
from audit.schema import next_month
from tests.factories import make_member, make_team

pytestmark = pytest.mark.django_db

GUIDE = Path(__file__).resolve().parents[2] / "docs/platform-credits.md"


def test_the_first_call_of_a_month_opens_the_account():
    team = make_team()
    held = credits.reserve(team=team, credits=7, call_id=uuid4())
    account = CreditAccount.objects.get(team=team)
    assert (account.granted, account.reserved, account.spent, account.left) == (5000, 7, 0, 4993)
    assert held.account_id == account.pk


def test_a_reservation_is_settled_for_what_the_call_took():
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    credits.settle(team_id=team.pk, account_id=held.account_id, reserved=10, spent=4, call_id=call, at=held.at)
    account = CreditAccount.objects.get(team=team)
    assert (account.reserved, account.spent) == (0, 4)


def test_a_released_reservation_takes_nothing():
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    credits.release(team_id=team.pk, account_id=held.account_id, reserved=10, call_id=call, at=held.at)
    account = CreditAccount.objects.get(team=team)
    assert (account.reserved, account.spent) == (0, 0)


def test_more_than_is_left_is_refused_with_what_to_do():
    team = make_team()
    with pytest.raises(OutOfCredits, match="may take 5,001 platform credits and 5,000 are left"):
        credits.reserve(team=team, credits=5001, call_id=uuid4())
    assert not CreditEntry.objects.filter(team=team, kind="reserve").exists()


def test_a_new_month_is_a_new_row_and_old_calls_settle_in_theirs(clock):
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    clock(days=31)
    credits.reserve(team=team, credits=1, call_id=uuid4())
    credits.settle(team_id=team.pk, account_id=held.account_id, reserved=10, spent=10, call_id=call, at=held.at)
    first, second = CreditAccount.objects.filter(team=team).order_by("period")
    assert (first.reserved, first.spent) == (0, 10)
    assert (second.reserved, second.spent) == (1, 0)


def test_the_ledger_adds_up_to_the_account():
    team = make_team()
    for number in range(6):
        call = uuid4()
        held = credits.reserve(team=team, credits=5, call_id=call)
        if number % 2:
            credits.settle(team_id=team.pk, account_id=held.account_id, reserved=5, spent=3, call_id=call, at=held.at)
    account = CreditAccount.objects.get(team=team)
    spent = CreditEntry.objects.filter(account=account, kind="settle").aggregate(sum=Sum("credits"))["sum"]
    assert (account.spent, account.reserved) == (spent, 15) == (9, 15)


# --- ends once --------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("second", ["settle", "release"])
def test_a_call_that_ended_cannot_end_again_and_nothing_moves(first: str, second: str):
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    end(first, team, held, call)
    before = books(team)
    with pytest.raises(NotHeld, match=f"Call {call} does not hold 10 platform credits"):
        end(second, team, held, call)
    assert books(team) == before


@pytest.mark.parametrize("reserved", [9, 11, 0])
def test_a_call_cannot_give_back_what_it_does_not_hold(reserved: int):
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    before = books(team)
    with pytest.raises(NotHeld):
        end("release", team, replace(held, credits=reserved), call)
    assert books(team) == before


def test_another_team_cannot_end_a_call():
    mine, theirs, call = make_team(), make_team(), uuid4()
    held = credits.reserve(team=theirs, credits=10, call_id=call)
    with pytest.raises(NotHeld):
        end("release", mine, held, call)
    assert CreditAccount.objects.get(team=theirs).reserved == 10


def test_a_call_reserves_once():
    team, call = make_team(), uuid4()
    credits.reserve(team=team, credits=10, call_id=call)
    before = books(team)
    with pytest.raises(IntegrityError, match="one_reservation_per_call"), transaction.atomic():
        credits.reserve(team=team, credits=5, call_id=call)
    assert books(team) == before


def test_a_call_that_took_more_than_it_held_is_charged_for_it_and_nothing_is_left():
    team, call = make_team(plan=plan_of(10)), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    credits.settle(team_id=team.pk, account_id=held.account_id, reserved=10, spent=30, call_id=call, at=held.at)
    account = CreditAccount.objects.get(team=team)
    assert (account.reserved, account.spent, account.left) == (0, 30, 0)
    with pytest.raises(OutOfCredits):
        credits.reserve(team=team, credits=1, call_id=uuid4())


@pytest.mark.requirement("BUD-8")
@pytest.mark.parametrize("change", ["UPDATE accounts_creditentry SET credits = 0", "DELETE FROM accounts_creditentry"])
def test_the_ledger_refuses_to_be_rewritten(change: str):
    credits.reserve(team=make_team(), credits=10, call_id=uuid4())
    with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_the_check_that_the_guide_gives_finds_only_accounts_that_do_not_add_up():
    check = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    good, bad = make_team(), make_team()
    for team in (good, bad):
        ended, given_back = uuid4(), uuid4()
        end("settle", team, credits.reserve(team=team, credits=5, call_id=ended), ended)
        end("release", team, credits.reserve(team=team, credits=3, call_id=given_back), given_back)
        credits.reserve(team=team, credits=2, call_id=uuid4())
    CreditAccount.objects.filter(team=bad).update(reserved=0)
    with connection.cursor() as cursor:
        cursor.execute(check)
        assert cursor.fetchall() == [(bad.credit_accounts.get().pk,)]


# --- plans change -----------------------------------------------------------------------


def test_what_takes_nothing_is_not_refused_where_more_was_charged_than_granted():
    team, call = make_team(plan=plan_of(10)), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)
    credits.settle(team_id=team.pk, account_id=held.account_id, reserved=10, spent=30, call_id=call, at=held.at)

    assert credits.reserve(team=team, credits=0, call_id=uuid4()).credits == 0


def test_a_larger_plan_helps_at_once_and_its_difference_is_a_grant():
    team = make_team(plan=plan_of(10))
    with pytest.raises(OutOfCredits):
        credits.reserve(team=team, credits=11, call_id=uuid4())
    team.plan = plan_of(100)
    team.save(update_fields=["plan"])
    credits.reserve(team=team, credits=11, call_id=uuid4())
    assert CreditAccount.objects.get(team=team).granted == 100
    assert list(team.credit_entries.filter(kind="grant").order_by("id").values_list("credits", flat=True)) == [10, 90]


def test_a_smaller_plan_takes_nothing_away_before_the_next_month(clock):
    team, call = make_team(plan=plan_of(100)), uuid4()
    held = credits.reserve(team=team, credits=60, call_id=call)
    team.plan = plan_of(10)
    team.save(update_fields=["plan"])
    credits.reserve(team=team, credits=40, call_id=uuid4())
    clock(days=31)
    with pytest.raises(OutOfCredits, match="11 platform credits and 10 are left"):
        credits.reserve(team=team, credits=11, call_id=uuid4())
    end("settle", team, held, call)
    assert CreditAccount.objects.earliest("period").spent == 60


# --- seats and packs --------------------------------------------------------------------


def test_pro_gives_a_quarter_million_for_every_member():
    team = make_team(plan=Plan.objects.get(key="pro"))
    make_member(team)
    credits.reserve(team=team, credits=500_000, call_id=uuid4())
    with pytest.raises(OutOfCredits, match="a pack or a larger plan helps at once"):
        credits.reserve(team=team, credits=1, call_id=uuid4())


def test_a_seat_added_raises_this_month_and_a_seat_taken_away_counts_from_the_next(clock):
    team = make_team(plan=plan_of(10, per_seat=True))
    credits.reserve(team=team, credits=10, call_id=uuid4())
    make_member(team)
    credits.reserve(team=team, credits=10, call_id=uuid4())
    team.memberships.filter(role="member").delete()
    assert credits.open_period(team=team) is False
    assert grants(team) == [("grant", 10), ("grant", 10)]
    clock(days=31)
    with pytest.raises(OutOfCredits, match="11 platform credits and 10 are left"):
        credits.reserve(team=team, credits=11, call_id=uuid4())


def test_a_pack_adds_to_this_month_and_does_not_roll_over(clock):
    team, pack = make_team(plan=plan_of(10)), Pack.objects.get(key="pack-10k")
    credits.add_pack(team=team, pack=pack, key=uuid4())
    credits.reserve(team=team, credits=10_010, call_id=uuid4())
    assert grants(team) == [("grant", 10), ("pack", 10_000)]
    assert team.credit_entries.get(kind="pack").note == "Pack of 10,000"
    clock(days=31)
    with pytest.raises(OutOfCredits, match="11 platform credits and 10 are left"):
        credits.reserve(team=team, credits=11, call_id=uuid4())


@pytest.mark.parametrize("pack_first", [True, False])
def test_a_pack_and_a_larger_plan_add_up_in_any_order(pack_first: bool):
    team = make_team(plan=plan_of(10))
    credits.open_period(team=team)
    steps = [
        lambda: credits.add_pack(team=team, pack=Pack(name="Some", credits=7), key=uuid4()),
        lambda: onto(team, plan_of(100)),
    ]
    for step in steps if pack_first else reversed(steps):
        step()
    account = CreditAccount.objects.get(team=team)
    assert (account.granted, account.packs) == (107, 7)
    assert sorted(grants(team)) == [("grant", 10), ("grant", 90), ("pack", 7)]


def test_a_plan_lowered_below_what_is_held_keeps_the_call_and_refuses_the_next_month_only(clock):
    team, call = make_team(plan=plan_of(100)), uuid4()
    held = credits.reserve(team=team, credits=90, call_id=call)
    onto(team, plan_of(5))
    end("settle", team, held, call)
    assert CreditAccount.objects.get(team=team).left == 10
    clock(days=31)
    with pytest.raises(OutOfCredits, match="6 platform credits and 5 are left"):
        credits.reserve(team=team, credits=6, call_id=uuid4())


def test_a_month_takes_no_pack_beyond_what_it_can_hold():
    team, huge = make_team(), Pack(name="Huge", credits=1_500_000_000)
    credits.add_pack(team=team, pack=huge, key=uuid4())
    with pytest.raises(credits.Full):
        credits.add_pack(team=team, pack=huge, key=uuid4())
    assert grants(team) == [("grant", 5_000), ("pack", 1_500_000_000)]


def test_more_seats_than_a_month_can_hold_are_granted_as_much_as_it_can():
    team = make_team(plan=plan_of(1_500_000_000, per_seat=True))
    make_member(team)
    credits.open_period(team=team)
    assert CreditAccount.objects.get(team=team).granted == 2_000_000_000


def onto(team: Team, plan: Plan) -> None:
    team.plan = plan
    team.save(update_fields=["plan"])
    credits.open_period(team=team)


def grants(team: Team) -> list[tuple[str, int]]:
    lines = team.credit_entries.filter(kind__in=["grant", "pack"])
    return list(lines.order_by("at").values_list("kind", "credits"))


# --- many at once -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("BUD-2")
def test_of_200_callers_at_once_exactly_the_50_that_the_plan_allows_pass():
    for _ in range(3):
        team = make_team(plan=plan_of(50))  # without an account yet: the first callers open it together
        assert at_once(200, lambda team=team: try_to_hold(team)) == {"held": 50, "refused": 150}
        account = CreditAccount.objects.get(team=team)
        assert (account.granted, account.reserved) == (50, 50)
        assert team.credit_entries.filter(kind="grant").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("BUD-1")
def test_64_callers_with_2000_calls_never_hold_and_spend_more_than_500():
    team, turns, seen = make_team(plan=plan_of(500)), iter(range(2000)), []

    def call_again_and_again() -> str:
        for turn in turns:
            outcome = try_to_hold(team, spend=turn % 2 == 0)
            if turn % 20 == 0:
                seen.extend(CreditAccount.objects.filter(team=team).values_list("reserved", "spent"))
            granted.append(outcome == "held")
        return "ended"

    granted: list[bool] = []
    assert at_once(64, call_again_and_again) == {"ended": 64}
    assert (len(granted), sum(granted)) == (2000, 500)
    assert len(seen) == 100
    assert max(map(sum, seen)) <= 500


@pytest.mark.django_db(transaction=True)
def test_of_many_who_end_one_call_at_once_one_does():
    team, call = make_team(), uuid4()
    held = credits.reserve(team=team, credits=10, call_id=call)

    def try_to_end() -> str:
        try:
            end("settle", team, held, call)
        except NotHeld:
            return "refused"
        return "ended"

    assert at_once(16, try_to_end) == {"ended": 1, "refused": 15}
    assert CreditAccount.objects.values_list("reserved", "spent").get(team=team) == (0, 10)


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("BUD-11")
def test_a_month_that_begins_under_load_is_granted_once_and_every_call_is_charged_to_its_own(clock):
    team, now = make_team(), datetime.now(UTC)
    midnight = datetime.combine(next_month(now.date()), time(), UTC)
    offset = (midnight - now).total_seconds() - 0.6
    clock(seconds=offset)
    long_call = uuid4()
    long_held = credits.reserve(team=team, credits=7, call_id=long_call)

    def call_across_midnight() -> str:
        clock(seconds=offset)
        made, account_id = 0, long_held.account_id
        while account_id == long_held.account_id or made < 20:
            call = uuid4()
            held = credits.reserve(team=team, credits=2, call_id=call)
            account_id, made = held.account_id, made + 1
            credits.settle(team_id=team.pk, account_id=account_id, reserved=2, spent=1, call_id=call, at=held.at)
        clock()
        return "ended"

    assert at_once(6, call_across_midnight) == {"ended": 6}
    end("settle", team, long_held, long_call)
    old, new = team.credit_accounts.order_by("period")
    assert new.period == midnight.date()
    for account in (old, new):
        charged = account.entries.filter(kind="settle").aggregate(sum=Sum("credits"))["sum"]
        assert (account.granted, account.reserved, account.spent) == (5000, 0, charged)
        assert account.entries.filter(kind="grant").count() == 1
    assert old.entries.filter(kind="reserve").aggregate(last=Max("at"))["last"] < midnight
    assert new.entries.filter(kind="reserve").aggregate(first=Min("at"))["first"] >= midnight
    assert old.entries.filter(call_id=long_call, kind="settle").exists()


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


def try_to_hold(team: Team, *, spend: bool = False) -> str:
    call = uuid4()
    try:
        with transaction.atomic():
            held = credits.reserve(team=team, credits=1, call_id=call)
    except OutOfCredits:
        return "refused"
    if spend:
        end("settle", team, held, call)
    return "held"


def end(how: str, team: Team, held: Reservation, call: UUID) -> None:
    facts = {
        "team_id": team.pk,
        "account_id": held.account_id,
        "reserved": held.credits,
        "call_id": call,
        "at": held.at,
    }
    if how == "settle":
        credits.settle(**facts, spent=held.credits)
    else:
        credits.release(**facts)


def books(team: Team) -> tuple[list, list]:
    """What account and ledger say."""
    return list(team.credit_accounts.values()), list(team.credit_entries.order_by("id").values())


def plan_of(monthly_credits: int, **more: bool) -> Plan:
    return Plan.objects.create(key=uuid4().hex, name="Some", monthly_credits=monthly_credits, position=9, **more)
