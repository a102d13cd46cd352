"""A cap that expects what calls usually cost refuses hardly anything that the budget could have paid."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from audit.clock import app_now
from integrations import catalog, catalog_reading
from integrations.caps import CapReached
from integrations.models import Call, Cap, CapCounter
from tests.integrations.desk import MODEL, Desk

pytestmark = pytest.mark.django_db(transaction=True)

PARALLEL = 16
CALLS = 320
WORDS = range(18, 23)  # in an answer
MOST_TOKENS = 330


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    catalog_reading.refresh(integration="openrouter", wanted=[MODEL], again_after=timedelta(0))
    catalog.forget()
    yield Desk(sandbox)
    catalog.forget()


def ask(desk: Desk, number: int) -> Call | None:
    """Make one call whose real cost is about a tenth of the most it could be; None when a cap refused it."""
    words = "tide " * WORDS[number % len(WORDS)]
    question = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Reply with exactly: {words}"}],
        "max_completion_tokens": MOST_TOKENS,
    }
    try:
        return desk.call(arguments=question).call
    except CapReached:
        return None
    finally:
        connection.close()


@pytest.mark.requirement("BUD-9")
def test_of_the_calls_that_a_budget_can_pay_at_least_95_in_100_pass(desk):
    known = [ask(desk, number) for number in range(20)]
    each = sum(call.cost_usd for call in known) / len(known)
    assert all(call.most_usd >= 9 * call.cost_usd for call in known)
    budget = Cap.objects.create(
        team=desk.team,
        kind=Cap.Kind.TEAM,
        period=Cap.Period.DAY,
        mode=Cap.Mode.EXPECTED,
        limit_usd=each * CALLS,
        created_by=desk.owner,
        created_at=app_now(),
    )

    with ThreadPoolExecutor(PARALLEL) as pool:
        passed = [call for call in pool.map(lambda number: ask(desk, number), range(CALLS)) if call]

    assert len(passed) >= CALLS * 95 // 100
    counter = CapCounter.objects.get(cap=budget)
    assert counter.reserved_usd == 0
    assert counter.spent_usd == sum((call.cost_usd for call in passed), Decimal(0)) <= budget.limit_usd
