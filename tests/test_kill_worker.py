"""One worker killed in the middle of a call; `python -m bench.chaos` does it for minutes."""

import re

import httpx
import pytest

from bench import chaos
from bench.installation import Installation

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
UNDER_WAY = "SELECT count(*) FROM integrations_call WHERE state = 'sent'"


@pytest.fixture
def place():
    running = Installation(WORKER_THREADS="4", DB_POOL="4")
    yield running
    running.stop()


def run_now(place: Installation, flow: str) -> None:
    """Start a flow as the demo owner does: by its page's button."""
    with httpx.Client(base_url=place.url, follow_redirects=True, trust_env=False) as browser:
        _press(browser, place.first_link, place.first_link)
        _press(browser, f"/t/demo-team/flows/{flow}/", f"/t/demo-team/flows/{flow}/run/", once="once")


def _press(browser: httpx.Client, page: str, action: str, **data: str) -> None:
    token = TOKEN.search(browser.get(page).text)[1]
    browser.post(action, data={"csrfmiddlewaretoken": token} | data).raise_for_status()


def test_a_killed_worker_leaves_nothing_missing_doubled_or_half_done(place):
    place.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 1}})
    run_now(place, "minute-brief")
    assert chaos.wait_until(lambda: chaos.count(place, UNDER_WAY), seconds=30)

    place.kill("worker")
    lost = chaos.count(place, UNDER_WAY)  # the flow's own schedule may have fired in these seconds: then there are two
    with place.database() as database:  # nobody waits half a minute here for the lease of a dead worker
        database.execute("UPDATE personas_run SET lease_until = app_now() WHERE state = 'running'")
    chaos.settle(place)

    assert {check.name: check.breaches for check in chaos.checks(place) if check.breaches} == {}
    assert dict(chaos.facts(place))["calls lost with their worker"] == lost > 0
