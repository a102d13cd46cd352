"""Pages that close while an answer streams: the answer does not notice, and is billed as it was made."""

import random
from decimal import Decimal

import pytest

from integrations.models import Call
from tests.personas.chat.pages import web
from tests.personas.chat.test_live import begin, desk, persona, wait_for

__all__ = ["desk", "persona"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.requirement("BUD-6")
def test_twenty_pages_that_close_at_random_points_change_nothing_of_the_bill(sandbox, desk, persona):
    chance = random.Random(6)
    sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.1}})
    answer, worker = begin(persona)
    wait_for(lambda: answer.run.stages.filter(state="running").exists(), 20)
    with web() as server:
        for _ in range(20):
            page = server.open(answer.chat, answer.chat.user)
            enough = chance.randint(1, 4_000)
            page.wait_for(lambda page, enough=enough: len(page.received) >= enough or page.ended.is_set())
            page.leave()
        worker.join(60)

    answer.run.refresh_from_db()
    call = Call.objects.get(run_id=answer.run_id)
    (line,) = desk.lines_of(call)
    assert (answer.run.state, call.state) == ("succeeded", "done")
    assert call.cost_usd == Decimal(line["cost"]).quantize(Decimal(10) ** -12)
