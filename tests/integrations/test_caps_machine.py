"""
Dollar caps against a small model, through any order of holds, ends, crashes, days and changed limits.

LEDGER_RUNS and LEDGER_STEPS ask for more than the few that every test run makes.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
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

from audit.clock import app_now
from integrations import caps
from integrations.caps import CapReached, UnknownPrice
from integrations.models import Cap, CapCounter
from tests.factories import make_team, owner_of
from tests.integrations import caps as books

RUNS = int(os.environ.get("LEDGER_RUNS", 20))
STEPS = int(os.environ.get("LEDGER_STEPS", 40))
DOLLARS = st.decimals(0, 3, places=3)
LIMITS = st.decimals(0, 8, places=2)
NO_COSTS = st.sampled_from([None, Decimal("NaN"), Decimal("-1"), Decimal("Infinity")])
PEOPLE = [uuid4(), uuid4()]
KINDS = [("team", "month"), ("team", "day"), ("persona", "week"), ("persona", "ever")]


class Crash(Exception):
    """The process is gone before its transaction was committed."""


@dataclass
class Money:
    """What one counter should say."""

    reserved: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)


@dataclass
class Held:
    """A call that held: how much in which counters, and whether it has ended."""

    amounts: dict[tuple, Decimal]
    ended: bool = False


@dataclass
class Limit:
    """A cap, its limit, and what its counters should say."""

    cap: Cap
    usd: Decimal
    counted: dict[tuple, Money] = field(default_factory=lambda: defaultdict(Money))


class Caps(RuleBasedStateMachine):
    """Every rule does one thing to the caps and says what the model expects of it."""

    calls = Bundle("calls")

    @initialize(limits=st.lists(LIMITS, min_size=len(KINDS), max_size=len(KINDS)), expects=st.booleans())
    def begin(self, limits: list[Decimal], expects: bool) -> None:
        shift_clock("")
        self.team, self.offset, self.held = make_team(), 0, {}
        modes = ["strict", "expected" if expects else "strict"] * 2
        self.limits = [
            Limit(books.make_cap(self.team, usd, kind=kind, period=period, mode=mode), usd)
            for (kind, period), usd, mode in zip(KINDS, limits, modes, strict=True)
        ]

    # --- hold -------------------------------------------------------------------------------

    @rule(target=calls, usd=DOLLARS, share=st.sampled_from([None, Decimal("0.5"), Decimal(2)]), who=st.integers(0, 1))
    def hold(self, usd: Decimal, share: Decimal | None, who: int):
        return self._hold(usd, None if share is None else usd * share, PEOPLE[who])

    @rule(target=calls, beyond=st.sampled_from([Decimal(0), caps.EXACT]), who=st.integers(0, 1))
    def hold_all_that_is_left_or_a_little_more(self, beyond: Decimal, who: int):
        """As the tightest cap has it, which `affordable` says where all are strict."""
        demands = books.demands_of(self.team, persona_id=PEOPLE[who])
        room = caps.affordable(demands)
        return self._hold((room or Decimal(0)) + beyond, None, PEOPLE[who])

    def _hold(self, usd: Decimal, expected: Decimal | None, persona: UUID):
        call, at = uuid4(), app_now()
        amounts = {self._counter(limit, persona, at): self._amount(limit, usd, expected) for limit in self._live()}
        fits = all(self._fits(limit, amounts[self._counter(limit, persona, at)], persona, at) for limit in self._live())
        asked = {"call": call, "persona_id": persona, "expected_usd": expected, "at": at}
        if not fits:
            with pytest.raises(CapReached), transaction.atomic():
                books.hold(self.team, usd, **asked)
            return multiple()
        books.hold(self.team, usd, **asked)
        for limit in self._live():
            key = self._counter(limit, persona, at)
            limit.counted[key].reserved += amounts[key]
        self.held[call] = Held(amounts)
        return call

    def _live(self) -> list[Limit]:
        return [limit for limit in self.limits if limit.cap.ended_at is None]

    def _counter(self, limit: Limit, persona: UUID, at: datetime) -> tuple[UUID, UUID, date]:
        subject = self.team.pk if limit.cap.kind == "team" else persona
        return limit.cap.pk, subject, first_day(limit.cap.period, at)

    def _amount(self, limit: Limit, usd: Decimal, expected: Decimal | None) -> Decimal:
        return min(usd, expected) if limit.cap.mode == "expected" and expected is not None else usd

    def _fits(self, limit: Limit, usd: Decimal, persona: UUID, at: datetime) -> bool:
        stands = limit.counted.get(self._counter(limit, persona, at), Money())
        return usd == 0 or stands.reserved + stands.spent + usd <= limit.usd

    @rule(usd=NO_COSTS)
    def hold_what_has_no_price(self, usd: Decimal | None) -> None:
        if self._live():
            with pytest.raises(UnknownPrice):
                books.hold(self.team, usd, persona_id=PEOPLE[0])

    @rule(call=calls, usd=DOLLARS)
    def hold_again(self, call: UUID, usd: Decimal) -> None:
        """The same counters refuse; those of a later day would know another call."""
        if any(key[1] == self.team.pk and self._is_today(key) for key in self.held[call].amounts):
            with pytest.raises((IntegrityError, CapReached)), transaction.atomic():
                books.hold(self.team, usd, call=call)

    def _is_today(self, key: tuple[UUID, UUID, date]) -> bool:
        limit = next(limit for limit in self._live() + self.limits if limit.cap.pk == key[0])
        return limit.cap.ended_at is None and key[2] == first_day(limit.cap.period, app_now())

    # --- end --------------------------------------------------------------------------------

    @rule(call=calls, usd=DOLLARS | st.decimals(3, 30, places=12))
    def settle(self, call: UUID, usd: Decimal) -> None:
        """For less, for just as much, or for ten times what was held; a second end changes nothing."""
        most = max(self.held[call].amounts.values(), default=None)
        over = books.settle(self.team, call, usd)
        ended = self.held[call].ended or most is None
        assert over == (0 if ended else max(Decimal(0), usd - most))
        self._ends(call, lambda held: usd)

    @rule(call=calls, usd=NO_COSTS)
    def settle_for_what_is_no_cost(self, call: UUID, usd: Decimal | None) -> None:
        books.settle(self.team, call, usd)
        self._ends(call, lambda held: held)

    @rule(call=calls)
    def release(self, call: UUID) -> None:
        books.release(self.team, call)
        self._ends(call, lambda held: Decimal(0))

    def _ends(self, call: UUID, cost) -> None:
        held = self.held[call]
        if held.ended:
            return
        held.ended = True
        for key, amount in held.amounts.items():
            money = next(limit for limit in self.limits if limit.cap.pk == key[0]).counted[key]
            money.reserved -= amount
            money.spent += cost(amount)

    # --- what happens meanwhile -------------------------------------------------------------

    @rule(usd=DOLLARS)
    def crash_after_holding(self, usd: Decimal) -> None:
        with pytest.raises((Crash, CapReached)), transaction.atomic():
            books.hold(self.team, usd, persona_id=PEOPLE[0])
            raise Crash

    @rule(call=calls, usd=DOLLARS)
    def crash_after_settling(self, call: UUID, usd: Decimal) -> None:
        with pytest.raises(Crash), transaction.atomic():
            books.settle(self.team, call, usd)
            raise Crash

    @rule(days=st.integers(1, 40))
    def time_passes(self, days: int) -> None:
        self.offset += days
        shift_clock(f"{self.offset} days")

    @rule(which=st.integers(0, len(KINDS) - 1), usd=LIMITS)
    def change_a_limit(self, which: int, usd: Decimal) -> None:
        """Higher or lower, also below what is held."""
        limit = self.limits[which]
        limit.usd = usd
        Cap.objects.filter(pk=limit.cap.pk).update(limit_usd=usd)

    @rule(which=st.integers(0, len(KINDS) - 1))
    def end_a_cap(self, which: int) -> None:
        cap = self.limits[which].cap
        cap.ended_at, cap.ended_by = app_now(), owner_of(self.team)
        cap.save(update_fields=["ended_at", "ended_by"])

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def counters_say_what_the_model_says_and_lines_add_up_to_them(self) -> None:
        rows = CapCounter.objects.filter(team=self.team)
        found = {(row.cap_id, row.subject, row.period_start): Money(row.reserved_usd, row.spent_usd) for row in rows}
        assert found == {key: money for limit in self.limits for key, money in limit.counted.items()}
        assert books.wrong_counters() == []


def first_day(period: str, at: datetime) -> date:
    """Said again in other words than the code's own."""
    day = at.date()
    back = {"day": 0, "week": day.isoweekday() - 1, "month": day.day - 1}
    return date(1970, 1, 1) if period == "ever" else day - timedelta(days=back[period])


def shift_clock(by: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.clock_offset', %s, false)", [by])


@pytest.mark.django_db
@pytest.mark.requirement("BUD-8", "BUD-11")
def test_caps_behave_as_the_model_whatever_happens():
    quick = settings(
        max_examples=RUNS, stateful_step_count=STEPS, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    try:
        run_state_machine_as_test(Caps, settings=quick)
    finally:
        shift_clock("")
