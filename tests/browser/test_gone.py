"""What a browser does while a run is at work changes nothing of what the run costs."""

import re
import time
from collections import Counter
from decimal import Decimal
from random import Random
from uuid import uuid4

import httpx
import pytest

from bench.chaos import wait_until
from bench.installation import Installation
from bench.reckoning import journal

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
FLOW = "/t/demo-team/flows/minute-brief/"
RUNS, VISITS = 4, 20
CALLS = "SELECT id::text, cost_usd FROM integrations_call WHERE run_id::text = ANY(%s) AND state = 'done'"
UNFINISHED = "SELECT count(*) FROM personas_run WHERE id::text = ANY(%s) AND finished_at IS NULL"


def press(browser: httpx.Client, page: str, action: str) -> httpx.Response:
    token = TOKEN.search(browser.get(page).text)[1]
    return browser.post(action, data={"csrfmiddlewaretoken": token, "once": uuid4().hex}).raise_for_status()


def go_away(browser: httpx.Client, address: str, chance: Random) -> bool:
    """Open a page and hang up at a random byte of it; return whether something of it was still to come."""
    with browser.stream("GET", address) as page:
        length, read = int(page.headers["content-length"]), 0
        point = chance.randrange(length)
        for piece in page.iter_raw(256):
            read += len(piece)
            if read >= point:
                return read < length
    return False


def unfinished(place: Installation, runs: list[str]) -> int:
    with place.database() as database:
        return database.execute(UNFINISHED, [runs]).fetchone()[0]


@pytest.mark.requirement("BUD-6")
def test_a_browser_that_goes_away_at_20_points_changes_nothing_of_what_is_charged(place):
    chance = Random(6)
    place.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.2}})
    with httpx.Client(base_url=place.url, follow_redirects=True, trust_env=False) as browser:
        link = place.sign_in_link()
        press(browser, link, link)
        pages = [str(press(browser, FLOW, f"{FLOW}run/").url) for _ in range(RUNS)]
        runs = [page.rstrip("/").rpartition("/")[2] for page in pages]
        left, at_work = 0, 0
        for _ in range(VISITS):
            time.sleep(chance.uniform(0, 0.2))
            at_work += unfinished(place, runs) > 0
            left += go_away(browser, chance.choice(pages) + chance.choice(["", "_progress/"]), chance)
    ended = wait_until(lambda: not unfinished(place, runs), seconds=60)
    place.rules()

    assert ended
    assert left >= VISITS // 2
    assert at_work >= VISITS // 2
    with place.database() as database:
        charged = dict(database.execute(CALLS, [runs]).fetchall())
    lines = [line for line in journal(place) if line["request_id"] in charged]
    assert Counter(line["request_id"] for line in lines) == dict.fromkeys(charged, 1)
    assert {line["request_id"]: line["cost"] for line in lines} == {
        call: cost or Decimal(0) for call, cost in charged.items()
    }
