import threading
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from accounts import credits
from accounts.credits import OutOfCredits
from accounts.models import CreditAccount, CreditEntry, Plan
from tests.factories import make_team

pytestmark = pytest.mark.django_db


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


@pytest.mark.django_db(transaction=True)
def test_parallel_calls_never_reserve_more_than_the_plan_grants():
    plan = Plan.objects.create(key="tiny", name="Tiny", monthly_credits=50)
    team = make_team(plan=plan)
    outcomes = []

    def spend() -> None:
        try:
            for _ in range(10):
                with transaction.atomic():
                    credits.reserve(team=team, credits=1, call_id=uuid4())
                outcomes.append("held")
        except OutOfCredits:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("held") == 50
    assert CreditAccount.objects.get(team=team).reserved == 50
