"""What a worker says while a model speaks: kept each second, carried to pages, and never in the way of the answer."""

import json
import threading
import time
from itertools import pairwise
from uuid import uuid4

import pytest
import redis
from django.conf import settings as configured
from django.db import transaction

from audit.models import Content
from integrations.actions import enable_for
from integrations.models import Call
from integrations.settling import settle_unknown
from personas import actions
from personas.attempts import Stopped
from personas.chat import live, sending
from personas.execution import work
from personas.leases import LeaseLost, claim
from personas.models import Run, StageRun
from tests.factories import make_team, owner_of
from tests.integrations.desk import Desk
from tests.personas.builders import make_persona
from tests.personas.chat.builders import make_chat, make_turn
from vault.content import open_content

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = "/chat/completions"


@pytest.fixture(autouse=True)
def fresh_post(monkeypatch) -> None:
    """Let no test inherit a client of Valkey, or the silence after a failure."""
    monkeypatch.setattr(live, "post", live.Post())


@pytest.fixture
def run():
    chat = make_chat(make_team())
    return make_turn(chat, state=Run.State.QUEUED, partial="").run


@pytest.fixture
def stage(run) -> StageRun:
    StageRun.objects.update(partial=None, partial_id=None)
    return run.stages.get()


@pytest.fixture
def speaking(run, stage):
    return live.Live(run, claim(run_id=run.pk, owner="test")).speaking(stage)


def store() -> redis.Redis:
    return redis.Redis.from_url(configured.STREAM_URL, decode_responses=True)


def entries(run: Run) -> list[tuple[str, int, str]]:
    """What was published: kind, place and words of each entry."""
    found = []
    for _, fields in store().xrange(live.key_of(run.pk)):
        head, _, words = fields[""].partition("\n")
        _, _, kind, place = head.split(" ")
        found.append((kind, int(place), words))
    return found


def kept(stage: StageRun) -> dict | None:
    """What the row of a stage keeps of an answer that is not whole."""
    row = StageRun.objects.get(pk=stage.pk)
    if row.partial is None:
        return None
    sealed = Content(id=row.partial_id, team_id=row.team_id, kind="partial", ciphertext=bytes(row.partial))
    return json.loads(open_content(content=sealed))


def wait_for(truth, seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- kept -------------------------------------------------------------------------------


def test_each_second_what_was_said_is_kept_sealed(run, stage, speaking):
    with speaking as voice:
        voice.reasoning("Hm. ")
        voice.on_text("Good ")
        wait_for(lambda: kept(stage) == {"text": "Good ", "reasoning": "Hm. "}, 3)
        assert b"Good" not in bytes(StageRun.objects.get().partial)
        voice.on_text("morning")
        wait_for(lambda: kept(stage) == {"text": "Good morning", "reasoning": "Hm. "}, 3)


def test_what_was_said_when_it_failed_is_kept_to_the_last_word(run, stage, speaking):
    with pytest.raises(ZeroDivisionError), speaking as voice:
        voice.on_text("Half a ")
        voice.on_text("sent")
        raise ZeroDivisionError

    assert kept(stage) == {"text": "Half a sent", "reasoning": ""}


def test_a_worker_that_lost_its_run_writes_nothing_and_learns_of_it(run, stage, speaking):
    with pytest.raises(LeaseLost), speaking as voice:
        Run.objects.update(fence=99)
        voice.on_text("Too late")
        for _ in range(200):
            voice.on_wait()
            time.sleep(0.01)

    assert kept(stage) is None


def test_two_hundred_thousand_characters_are_kept_and_carried(run, stage, speaking):
    text = "word " * 40_000
    with speaking as voice:
        for at in range(0, len(text), 5_000):
            voice.on_text(text[at : at + 5_000])
        wait_for(lambda: (kept(stage) or {}).get("text") == text)

    assert "".join(words for _, _, words in entries(run)) == text


@pytest.mark.parametrize("words", ["\ud83d", "a\udfffb", "\x00", "\r", "\u2028"])
def test_words_that_are_no_text_harm_nobody(run, stage, speaking, words):
    with pytest.raises(ZeroDivisionError), speaking as voice:
        voice.on_text(words)
        voice.on_text("after")
        raise ZeroDivisionError

    clean = words.encode("utf-8", "replace").decode()
    assert kept(stage)["text"] == f"{clean}after"
    assert "".join(said for _, _, said in entries(run)) == f"{clean}after"


# --- carried ----------------------------------------------------------------------------


def test_entries_come_ten_times_a_second_at_most_and_join_without_a_gap(run, stage, speaking):
    began = time.monotonic()
    with speaking as voice:
        for number in range(100):
            voice.on_text(f"{number} ")
            time.sleep(0.005)
    took = time.monotonic() - began

    found = entries(run)
    assert "".join(words for _, _, words in found) == "".join(f"{number} " for number in range(100))
    assert len(found) <= took * 10 + 2
    for (_, place, words), (_, following, _) in pairwise(found):
        assert following == place + len(words)


def test_the_first_word_does_not_wait_for_others(run, stage, speaking):
    with speaking as voice:
        voice.on_text("A")
        wait_for(lambda: entries(run), 0.5)


def test_a_stream_ends_soon_after_its_turn(run, stage, speaking):
    with speaking as voice:
        voice.on_text("A")
    assert live.AFTERLIFE < store().ttl(live.key_of(run.pk)) <= live.LIFE

    live.end(run.pk)

    assert 0 < store().ttl(live.key_of(run.pk)) <= live.AFTERLIFE


def test_pages_are_told_once_a_change_is_committed(run):
    with transaction.atomic():
        live.tell(run.pk)
        assert entries(run) == []

    assert [kind for kind, _, _ in entries(run)] == ["tell"]


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1", "redis://nowhere.invalid"])
def test_an_answer_does_not_notice_that_valkey_is_away(run, stage, speaking, settings, address):
    settings.STREAM_URL = address
    with speaking as voice:
        began = time.monotonic()
        for _ in range(1000):
            voice.on_text("word ")
        live.tell(run.pk)
        assert time.monotonic() - began < live.TIMEOUT * 2
        wait_for(lambda: (kept(stage) or {}).get("text") == "word " * 1000)


# --- stopped ----------------------------------------------------------------------------


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def persona(desk):
    persona = make_persona(desk.team, chain=["openai/gpt-5.4", "anthropic/claude-sonnet-4.6"])
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=["create_chat_completion"], by=desk.owner)
    return persona


def begin(persona):
    """Begin a chat and let a worker take up its answer, in a thread of its own."""
    message = sending.start_chat(
        team=persona.team,
        persona=persona,
        by=owner_of(persona.team),
        text="Tell a long story",
        idempotency_key=uuid4().hex,
    )
    answer = message.replies.select_related("run").get()

    def take() -> None:
        from django.db import connection

        work(run_id=answer.run_id, owner=uuid4().hex)
        connection.close()

    worker = threading.Thread(target=take)
    worker.start()
    return answer, worker


def stopped_after(answer, worker) -> float:
    """Stop an answer as its member does; how long its worker went on."""
    began = time.monotonic()
    actions.stop_run(run=answer.run, by=answer.run.user)
    worker.join(15)
    return time.monotonic() - began


def test_a_stop_ends_an_answer_in_the_middle_and_keeps_what_was_said(sandbox, desk, persona):
    sandbox.rules({"match": {"path": CHAT}, "answer": {"kind": "slow", "delay": 0.1}})
    answer, worker = begin(persona)
    wait_for(lambda: Call.objects.filter(run_id=answer.run_id).exclude(generation_id="").exists(), 20)
    stage = answer.run.stages.get()
    wait_for(lambda: kept(stage), 10)

    assert stopped_after(answer, worker) < 2  # a second, and what a busy machine adds

    answer.run.refresh_from_db()
    call = Call.objects.get(run_id=answer.run_id)
    assert (answer.run.state, call.state) == ("stopped", "unknown")
    assert "stopped" in call.message
    assert kept(stage)["text"]


@pytest.mark.requirement("BUD-6")
def test_what_a_stopped_answer_took_is_known_from_the_providers_record(sandbox, desk, persona):
    sandbox.rules({"match": {"path": CHAT}, "answer": {"kind": "slow", "delay": 0.1}})
    answer, worker = begin(persona)
    wait_for(lambda: Call.objects.filter(run_id=answer.run_id).exclude(generation_id="").exists(), 20)
    stopped_after(answer, worker)
    call = Call.objects.select_related("team__plan", "connection").get(run_id=answer.run_id)

    def settled() -> bool:
        settle_unknown(call=call)
        call.refresh_from_db()
        return call.state == "failed"

    wait_for(settled, 10)
    (line,) = desk.lines_of(call)
    assert float(call.cost_usd) == pytest.approx(float(line["cost"]))


@pytest.mark.parametrize("at", ["start", "middle"])
def test_a_stop_is_heard_while_the_provider_says_nothing(sandbox, desk, persona, at):
    sandbox.rules({"match": {"path": CHAT}, "answer": {"kind": "silence"} if at == "start" else SLOWLY})
    answer, worker = begin(persona)
    wait_for(lambda: Call.objects.filter(run_id=answer.run_id).exists(), 20)

    assert stopped_after(answer, worker) < 2.5

    answer.run.refresh_from_db()
    assert answer.run.state == "stopped"
    assert Call.objects.filter(run_id=answer.run_id).count() == 1  # no other model was asked


SLOWLY = {"kind": "slow", "delay": 20}


def test_a_stop_that_is_wanted_ends_the_voice_itself(run, stage, speaking):
    with pytest.raises(Stopped), speaking as voice:
        Run.objects.update(stop_wanted_at="2026-01-01T00:00:00Z")
        for _ in range(150):
            voice.on_text("x")
            time.sleep(0.01)
