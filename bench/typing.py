"""
Typing in a long chat, in a real browser: what a hand and an eye notice.

A chat of 200 messages with all of them on the page, and one of 2, on the same machine in the same run. In each, so many
times: a line is typed and sent with Enter, and its answer streams in until it is stopped. Measured is, in ms:

- `key`: from a key that is pressed to the next picture with its letter (in steps of 8, as browsers report it; shorter
  than 16 is not reported and counts as 16);
- `left`, `stands`: from Enter to the moment the request leaves, and to the first picture that has the message;
- `paint`: from a piece of the answer that arrives to the first picture that has it;
- `longest_task`: the longest time that the page took no input, from opening the chat to the end of it all.
"""

import json
import sys
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from playwright.sync_api import Browser, Page, Request

from bench.chromium import chromium
from bench.installation import Installation

AIM_MS = 100  # no task of the page is longer
SIZES = (2, 200)
SENDS = 4
BEGUN = "Reply with exactly: " + " ".join(f"tide{number}" for number in range(400))
LINE = " and so on, until it turns at last."
PIECES = 30  # of an answer that are watched before it is stopped
MODEL = "openai/gpt-5.4"
SLOW = {"match": {"model": MODEL, "path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.1}}
SPREADS = ("key", "left", "stands", "paint")
PACES = {f"CALLS_A_MINUTE_{kind}": "1000000" for kind in ("TEAM", "MEMBER", "PERSONA", "TOOL")}
SECONDS = 180  # for whatever is waited for
SAID = """## What the tide table says

The **second** high water of a day comes about 12 hours and 25 minutes after the first; `slack` lasts for minutes.

| Harbour | High water | Range |
|---|---|---|
| North | 04:12 | 3.1 m |
| South | 04:58 | 2.7 m |

1. Read the table for the *nearest* harbour.
2. Add what the wind does: a gale holds the water up.
3. Ask the harbour office where both disagree.

```python
def high_water(first, number):
    return first + number * 12.42
```
"""
WATCH = (Path(__file__).parent / "typing.js").read_text()


def run() -> dict[str, Any]:
    """Measure in both chats, and print a table."""
    place = Installation(**PACES)
    try:
        made = json.loads(place.manage("shell", "--no-imports", "--command", _prepare(place.key(balance=10_000))))
        place.rules(SLOW)
        with chromium() as browser:
            print("messages        key ms       left ms     stands ms      paint ms  longest task ms  elements")
            found = [_measure(browser, place, made, size) for size in SIZES]
    finally:
        place.stop()
    ratios = {name: _ratio(name, *found) for name in SPREADS}
    print("long to short  " + " ".join(f"{ratios[name]:.1f}".rjust(13) for name in SPREADS))
    return {"name": "typing", "aim_ms": AIM_MS, "sends": SENDS, "chats": found, "long_to_short": ratios}


def _prepare(key: str) -> str:
    return f"from bench.typing import prepare; prepare({key!r})"


# --- in the browser ---------------------------------------------------------------------


def _measure(browser: Browser, place: Installation, made: dict[str, Any], size: int) -> dict[str, Any]:
    context = browser.new_context(base_url=place.url, viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "session", "value": made["session"], "url": place.url}])
    context.add_init_script(WATCH)
    context.set_default_timeout(SECONDS * 1000)
    chat = made["chats"][str(size)]
    sends = [_send(context.new_page(), f"/t/{made['team']}/chat/{chat['id']}/?at={chat['last']}") for _ in range(SENDS)]
    context.close()
    figures = {
        "messages": size,
        "elements": max(send["elements"] for send in sends),
        **{f"{name}_ms": _spread([ms for send in sends for ms in send[name]]) for name in ("key", "paint")},
        **{f"{name}_ms": _spread([send[name] for send in sends]) for name in ("left", "stands")},
        "longest_task_ms": round(max(send["longest"] for send in sends)),
        "tasks_over_50_ms": sum(send["long"] for send in sends),
    }
    print(_row(figures), flush=True)
    return figures


def _send(page: Page, address: str) -> dict[str, Any]:
    """Open the chat, type and send a line, and follow the answer to its end."""
    page.goto(address)
    _show_all(page)
    field = page.get_by_label("Message to")
    field.fill(BEGUN)
    page.keyboard.type(LINE, delay=30)
    typed = page.evaluate("window.seen()")
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.keyboard.press("Enter")
    page.locator("[data-stop]").wait_for()
    _show_all(page)
    elements = page.evaluate("document.querySelectorAll('*').length")
    before = page.evaluate("window.seen()")
    _wait_for_pieces(page, len(before["paints"]) + PIECES)
    page.keyboard.press("Escape")
    page.locator(".answer").last.locator(".took").wait_for()
    after = page.evaluate("window.seen()")
    pressed = after["pressed"]
    page.close()
    return {
        "key": typed["keys"],
        "left": sent[0].timing["startTime"] - pressed,
        "stands": after["stands"] - pressed,
        "paint": after["paints"][len(before["paints"]) :],
        "elements": elements,
        "longest": max([0, *typed["tasks"], *after["tasks"]]),
        "long": len(typed["tasks"]) + len(after["tasks"]),
    }


def _wait_for_pieces(page: Page, count: int) -> None:
    deadline = monotonic() + SECONDS
    while (painted := len(page.evaluate("window.seen()")["paints"])) < count:
        if monotonic() > deadline:
            raise TimeoutError(f"The answer does not stream: {painted} of {count} pieces came.")
        page.wait_for_timeout(200)


def _show_all(page: Page) -> None:
    """Bring every earlier message onto the page."""
    earlier = page.locator("#earlier a")
    while earlier.count():
        address = earlier.get_attribute("href")
        earlier.press("Enter")
        page.locator(f'#earlier a[href="{address}"]').wait_for(state="detached")


def _spread(ms: list[float]) -> dict[str, float]:
    return {
        "median": round(median(ms), 1),
        "p95": round(quantiles(ms, n=20, method="inclusive")[18], 1),
        "count": len(ms),
    }


def _ratio(name: str, short: dict[str, Any], long: dict[str, Any]) -> float:
    """How many times as long it takes, in the median, in the long chat: a slow machine is slow in both."""
    return round(long[f"{name}_ms"]["median"] / short[f"{name}_ms"]["median"], 1)


def _row(figures: dict[str, Any]) -> str:
    spreads = [figures[f"{name}_ms"] for name in SPREADS]
    cells = " ".join(f"{each['median']:.0f} / {each['p95']:.0f}".rjust(13) for each in spreads)
    return f"{figures['messages']:8} {cells} {figures['longest_task_ms']:16} {figures['elements']:9}"


# --- inside the installation ------------------------------------------------------------


def prepare(key: str) -> None:
    """Make a team with a chat of each size by asking for it. Prints what a browser needs to know, as JSON."""
    from accounts.actions import create_team
    from accounts.models import Plan, User
    from audit.clock import app_now
    from bench.load import _session_of, wait_for_workers
    from integrations.actions import connect, enable_for
    from integrations.registry import get_integration
    from personas import actions

    owner = User.objects.create_user(email="typist@load.example", name="Typist")
    team = create_team(name="Typing", owner=owner, at=app_now(), plan=Plan.objects.get(key="pro"))
    given = {"integration": get_integration("openrouter"), "label": "Main", "kind": "api_key", "posted": key}
    connection = connect(team=team, by=owner, **given)
    persona = actions.create_persona(team=team, by=owner, name="Tide Writer", purpose="", chain=[MODEL])
    enable_for(connection=connection, persona_id=persona.pk, tools=["create_chat_completion"], by=owner)
    wait_for_workers([team])
    answers = {size: _grown(_asked(team, persona, owner), size // 2 - 1) for size in SIZES}
    chats = {size: {"id": str(last.chat_id), "last": str(last.pk)} for size, last in answers.items()}
    sys.stdout.write(json.dumps({"team": team.slug, "session": _session_of(owner), "chats": chats}))


def _asked(team: Any, persona: Any, owner: Any) -> Any:
    """Begin a chat and return its first answer, when it is whole."""
    from personas.chat import sending

    text = f"Reply with exactly: {SAID}"
    said = sending.start_chat(team=team, persona=persona, by=owner, text=text, idempotency_key=uuid4().hex)
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        answer = said.replies.select_related("run").get()
        if answer.run.finished_at:
            return answer
        sleep(0.02)
    raise TimeoutError("A worker did not answer.")


def _grown(answer: Any, times: int) -> Any:
    """Repeat the turn of this answer so many times, row by row, and return the last answer."""
    from integrations.models import Call

    said, stages = answer.parent, list(answer.run.stages.all())
    calls = {stage.pk: list(Call.objects.filter(stage_id=stage.pk)) for stage in stages}
    for _ in range(times):
        run = _copy(answer.run, idempotency_key=uuid4().hex)
        for stage in stages:
            of_run = _copy(stage, run=run)
            for call in calls[stage.pk]:
                _copy(call, run_id=run.pk, stage_id=of_run.pk)
        answer = _copy(answer, run=run, parent=_copy(said, parent=answer))
    return answer


def _copy(row: Any, **changes: Any) -> Any:
    from audit.ids import uuid7

    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = type(row)(**values | {"id": uuid7()})
    for name, value in changes.items():
        setattr(made, name, value)
    made.save(force_insert=True)
    return made
