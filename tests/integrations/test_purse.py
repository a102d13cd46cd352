"""What one run may take in platform credits."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection as database

from audit.ids import uuid7
from audit.models import Event
from integrations import purse
from integrations.models import Call
from integrations.purse import RunLimitReached, StageLimit, StageLimitReached
from tests.integrations.desk import Desk

READ = "get_models_count"


@pytest.fixture
def desk(sandbox, settings, known_catalog) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


@pytest.mark.django_db
@pytest.mark.requirement("LLM-2")
def test_a_call_that_might_pass_the_runs_limit_is_refused_and_sends_nothing(desk):
    run = uuid7()
    first = desk.call(run_id=run, most_credits=10).call
    assert purse.taken(team_id=desk.team.pk, run_id=run) == first.credits > 0
    left_before, sent_before = desk.account.left, len(desk.sandbox.journal())

    with pytest.raises(RunLimitReached, match="at most 2 platform credits") as refusal:
        desk.call(run_id=run, most_credits=2)

    assert refusal.value.taken == first.credits
    assert (desk.account.left, desk.account.reserved, len(desk.sandbox.journal())) == (left_before, 0, sent_before)
    assert Event.objects.get(run_id=run, action="call.refused").outcome == "run_limit"


@pytest.mark.django_db
@pytest.mark.parametrize("most", [None, 1])
def test_a_limit_is_one_runs_and_nobody_elses(desk, most):
    desk.call(READ, {}, run_id=uuid7(), most_credits=1)

    assert desk.call(READ, {}, run_id=uuid7(), most_credits=most).call.state == "done"
    assert desk.call(READ, {}, most_credits=most).call.state == "done"


@pytest.mark.django_db
def test_what_nobody_knows_counts_as_taken(desk):
    run = uuid7()
    call = desk.call(run_id=run).call
    Call.objects.filter(pk=call.pk).update(state="unknown", credits=None, credits_reserved=90)

    with pytest.raises(RunLimitReached):
        desk.call(READ, {}, run_id=run, most_credits=90)


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("LLM-2")
def test_parallel_calls_of_a_run_never_pass_its_limit(desk):
    run, each = uuid7(), desk.call(READ, {}).call.credits
    most = 3 * each

    def call(_: int) -> str:
        try:
            return desk.call(READ, {}, run_id=run, most_credits=most).call.state
        except RunLimitReached:
            return "refused"
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        ends = sorted(pool.map(call, range(8)))

    assert ends == ["done"] * 3 + ["refused"] * 5
    assert purse.taken(team_id=desk.team.pk, run_id=run) == most


# --- stages, in dollars -----------------------------------------------------------------


@pytest.mark.django_db
def test_a_call_that_might_pass_what_its_stage_may_cost_is_refused_and_sends_nothing(desk):
    run, stage, beside = uuid7(), uuid7(), uuid7()
    first = desk.call(run_id=run, stage_id=stage).call
    assert first.cost_usd > 0
    both = StageLimit(first.most_usd, (stage, beside))
    left_before, sent_before = desk.account.left, len(desk.sandbox.journal())

    with pytest.raises(StageLimitReached, match="at most") as refusal:
        desk.call(run_id=run, stage_id=beside, stage_limit=both)

    assert refusal.value.cost == first.cost_usd
    assert (desk.account.left, desk.account.reserved, len(desk.sandbox.journal())) == (left_before, 0, sent_before)
    assert Event.objects.get(run_id=run, action="call.refused").outcome == "stage_limit"
    alone = StageLimit(first.most_usd, (beside,))
    assert desk.call(run_id=run, stage_id=beside, stage_limit=alone).call.state == "done"
    assert desk.call(READ, {}, run_id=run, stage_id=stage, stage_limit=both).call.state == "done"  # costs nothing
    Call.objects.filter(pk=first.pk).update(state="unknown", cost_usd=None)
    with pytest.raises(StageLimitReached) as refusal:
        desk.call(run_id=run, stage_id=stage, stage_limit=StageLimit(first.most_usd, (stage,)))
    assert refusal.value.cost == first.most_usd  # what nobody knows counts as taken


def test_a_call_without_a_known_price_passes_under_no_limit_of_a_stage():
    limit = StageLimit(Decimal("1"), (uuid7(),))
    checking = purse.checking_stage(team_id=uuid7(), run_id=uuid7(), limit=limit, needed=None)
    with pytest.raises(StageLimitReached, match="has no known price"):
        checking.read([(Decimal(0),)])
