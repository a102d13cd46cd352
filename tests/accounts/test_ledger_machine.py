"""
The ledger against a small model, through any order of reservations, ends, crashes, months, plans, seats and packs.

LEDGER_RUNS and LEDGER_STEPS ask for more than the few that every test run makes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Q, Sum
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from accounts import credits
from accounts.credits import NotHeld, OutOfCredits, Reservation
from accounts.models import Pack, Plan
from tests.factories import make_member, make_team

RUNS = int(os.environ.get("LEDGER_RUNS", 60))
STEPS = int(os.environ.get("LEDGER_STEPS", 40))
AMOUNTS = st.integers(0, 60)
GRANTS = st.integers(0, 200)


class Crash(Exception):
    """The process is gone before its transaction was committed."""


@dataclass
class Month:
    """What the account of one month should say."""

    granted: int
    reserved: int = 0
    spent: int = 0
    packs: int = 0  # the part of what was granted that packs added

    @property
    def left(self) -> int:
        return max(0, self.granted - self.reserved - self.spent)


@dataclass
class Held:
    """A call that was reserved: in which month, and whether it has ended."""

    month: date
    reservation: Reservation
    ended: bool = False


class Ledger(RuleBasedStateMachine):
    """Every rule does one thing to the ledger and says what the model expects of it."""

    calls = Bundle("calls")

    @initialize(grant=GRANTS)
    def begin(self, grant: int) -> None:
        shift_clock("")
        self.plan = Plan.objects.create(key=uuid4().hex, name="Some", monthly_credits=grant, position=9)
        self.team = make_team(plan=self.plan)
        self.offset, self.seats = 0, 1
        self.months: dict[date, Month] = {}
        self.held: dict[UUID, Held] = {}

    # --- reserve ----------------------------------------------------------------------------

    @rule(target=calls, amount=AMOUNTS)
    def reserve(self, amount: int):
        return self._reserve(amount)

    @rule(target=calls, beyond=st.integers(0, 1))
    def reserve_all_that_is_left_or_one_more(self, beyond: int):
        return self._reserve(self._as_granted_now(self._today()).left + beyond)

    def _reserve(self, amount: int):
        call, today = uuid4(), self._today()
        month = self._month_with_room(today, amount)
        if month is None:
            with pytest.raises(OutOfCredits) as refused, transaction.atomic():
                credits.reserve(team=self.team, credits=amount, call_id=call)
            assert (refused.value.needed, refused.value.left) == (amount, self._as_granted_now(today).left)
            return multiple()
        reservation = credits.reserve(team=self.team, credits=amount, call_id=call)
        month.reserved += amount
        self.months[today], self.held[call] = month, Held(today, reservation)
        assert not amount or month.reserved + month.spent <= month.granted
        return call

    def _today(self) -> date:
        """The month it is, by the shifted clock."""
        return (datetime.now(UTC) + timedelta(days=self.offset)).date().replace(day=1)

    def _month_with_room(self, today: date, amount: int) -> Month | None:
        """The account as a reservation leaves it: as it stands if that is enough, else with today's plan."""
        possible = self._possible(today)
        return next((month for month in possible if not amount or month.left >= amount), None)

    def _possible(self, today: date) -> list[Month]:
        standing = [self.months[today]] if today in self.months else []
        return [*standing, self._as_granted_now(today)]

    def _as_granted_now(self, today: date) -> Month:
        standing = self.months.get(today, Month(0))
        by_plan = self.plan.monthly_credits * (self.seats if self.plan.per_seat else 1)
        granted = max(standing.granted - standing.packs, by_plan) + standing.packs
        return Month(granted, standing.reserved, standing.spent, standing.packs)

    @rule(call=calls, amount=AMOUNTS)
    def reserve_again(self, call: UUID, amount: int) -> None:
        with pytest.raises((IntegrityError, OutOfCredits)), transaction.atomic():
            credits.reserve(team=self.team, credits=amount, call_id=call)

    @rule(amount=st.integers(-60, -1))
    def reserve_less_than_nothing(self, amount: int) -> None:
        with pytest.raises((IntegrityError, OutOfCredits)), transaction.atomic():
            credits.reserve(team=self.team, credits=amount, call_id=uuid4())

    # --- end --------------------------------------------------------------------------------

    @rule(call=calls, spent=AMOUNTS)
    def settle(self, call: UUID, spent: int) -> None:
        """For less, for just as much or for more than was reserved; a second end is refused."""
        if self._ends(call, lambda facts: credits.settle(**facts, spent=spent)):
            self.months[self.held[call].month].spent += spent

    @rule(call=calls)
    def release(self, call: UUID) -> None:
        self._ends(call, lambda facts: credits.release(**facts))

    def _ends(self, call: UUID, end: Callable[[dict], None]) -> bool:
        held = self.held[call]
        if held.ended:
            with pytest.raises(NotHeld):
                end(self._facts(call))
            return False
        end(self._facts(call))
        held.ended = True
        self.months[held.month].reserved -= held.reservation.credits
        return True

    @rule(call=calls, wrong=st.integers(1, 60))
    def release_what_is_not_held(self, call: UUID, wrong: int) -> None:
        facts = self._facts(call)
        with pytest.raises(NotHeld):
            credits.release(**facts | {"reserved": facts["reserved"] + wrong})

    def _facts(self, call: UUID) -> dict:
        held = self.held[call].reservation
        account = {"team_id": self.team.pk, "account_id": held.account_id}
        return account | {"reserved": held.credits, "call_id": call, "at": held.at}

    # --- what happens meanwhile -------------------------------------------------------------

    @rule(amount=AMOUNTS)
    def crash_after_reserving(self, amount: int) -> None:
        with pytest.raises((Crash, OutOfCredits)), transaction.atomic():
            credits.reserve(team=self.team, credits=amount, call_id=uuid4())
            raise Crash

    @rule(call=calls, spent=AMOUNTS)
    def crash_after_settling(self, call: UUID, spent: int) -> None:
        with pytest.raises((Crash, NotHeld)), transaction.atomic():
            credits.settle(**self._facts(call), spent=spent)
            raise Crash

    @rule(days=st.integers(1, 40))
    def time_passes(self, days: int) -> None:
        self.offset += days
        shift_clock(f"{self.offset} days")

    @rule(grant=GRANTS, per_seat=st.booleans())
    def change_the_plan(self, grant: int, per_seat: bool) -> None:
        """Larger or smaller, also below what is reserved."""
        self.plan.monthly_credits, self.plan.per_seat = grant, per_seat
        self.plan.save(update_fields=["monthly_credits", "per_seat"])

    @rule()
    def add_a_seat(self) -> None:
        make_member(self.team)
        self.seats += 1

    @rule()
    def take_a_seat_away(self) -> None:
        """The owner stays."""
        if self.seats > 1:
            self.team.memberships.latest("id").delete()
            self.seats -= 1

    @rule(amount=AMOUNTS)
    def add_a_pack(self, amount: int) -> None:
        credits.add_pack(team=self.team, pack=Pack(name="Some", credits=amount), key=uuid4())
        today = self._today()
        month = self.months[today] = self._as_granted_now(today)
        month.granted += amount
        month.packs += amount

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def accounts_say_what_the_model_says_and_lines_add_up_to_them(self) -> None:
        """Of what was reserved, an account still holds what the calls that did not end reserved."""
        rows = self.team.credit_accounts.annotate(
            by_plan=lines("grant"), by_packs=lines("pack"), lines_reserved=lines("reserve"), lines_spent=lines("settle")
        )
        found = {row.period: row for row in rows}
        books = {period: Month(row.granted, row.reserved, row.spent, row.packs) for period, row in found.items()}
        assert books == self.months
        for period, row in found.items():
            given_back = sum(
                held.reservation.credits for held in self.held.values() if held.ended and held.month == period
            )
            held = row.lines_reserved - given_back
            from_lines = Month(row.by_plan + row.by_packs, held, row.lines_spent, row.by_packs)
            assert from_lines == self.months[period]


def lines(kind: str) -> Sum:
    return Sum("entries__credits", filter=Q(entries__kind=kind), default=0)


def shift_clock(by: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.clock_offset', %s, false)", [by])


@pytest.mark.django_db
@pytest.mark.requirement("BUD-8", "BUD-11")
def test_the_ledger_behaves_as_the_model_whatever_happens():
    quick = settings(
        max_examples=RUNS, stateful_step_count=STEPS, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    try:
        run_state_machine_as_test(Ledger, settings=quick)
    finally:
        shift_clock("")
