"""Searching one's own chats: nobody else's, bounded, and honest about how far back it came."""

from types import SimpleNamespace

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import Content
from personas.chat import search
from tests.factories import make_member, make_team, owner_of
from tests.personas.chat.builders import make_chat, make_message, make_turn
from vault.content import open_content

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


def find(team, words: str, **more) -> search.Found:
    return search.find(team=team, user=owner_of(team), words=words, **more)


def texts(found: search.Found) -> list[str]:
    return [f"{hit.before}[{hit.found}]{hit.after}" for hit in found.hits]


def test_nothing_of_anybody_else_is_found(team):
    other = make_member(team)
    make_turn(make_chat(team, user=other, shared_at=make_chat(team).created_at), "A harbour of theirs")
    stranger = make_team()
    make_turn(make_chat(stranger), "A harbour of strangers")
    make_turn(make_chat(team, temporary=True), "A harbour for now")
    make_turn(make_chat(stranger, user=owner_of(team)), "Mine, in another team: harbour")

    assert find(team, "harbour") == search.Found([], searched_to=None)


def test_what_was_erased_is_not_found(team):
    turn = make_turn(make_chat(team), "A harbour")
    Content.objects.filter(subject=turn.chat_id).update(ciphertext=None)

    found = find(team, "harbour")
    assert (found.hits, found.more) == ([], False)


@pytest.mark.parametrize("words", ["", "   ", "\0", "x" * 5000, "' OR 1=1 --", "\ud83d", "%_"])
def test_odd_words_find_nothing_and_break_nothing(team, words):
    make_turn(make_chat(team), "A harbour")

    assert find(team, words).hits == []


def test_messages_and_answers_are_found_newest_first(team):
    chat = make_chat(team)
    first = make_turn(chat, "Where is the Harbour office?", "By the quay.")
    second = make_turn(chat, "And when?", "The HARBOUR office opens at nine.", parent=first)

    found = find(team, "harbour office")

    assert texts(found) == ["The [HARBOUR] office opens at nine.", "Where is the [Harbour] office?"]
    assert [hit.message.pk for hit in found.hits] == [second.pk, first.parent_id]
    assert (found.more, found.searched_to) == (False, first.parent.created_at)


def test_all_words_must_be_said(team):
    make_turn(make_chat(team), "harbour", "quay")

    assert find(team, "harbour quay").hits == []


def test_a_long_text_is_shown_around_what_was_found(team):
    make_message(make_chat(team), "a " * 500 + "harbour" + " z" * 500)

    hit = find(team, "harbour").hits[0]
    assert hit.before == "…" + "a " * 40
    assert hit.after == " z" * 40 + "…"


def test_letters_that_fold_to_more_letters_are_shown_as_they_were_written(team):
    make_message(make_chat(team), "ßßß Straße ßßß")

    assert texts(find(team, "strasse")) == ["ßßß [Straße] ßßß"]


def test_a_search_goes_on_where_it_stopped(team, monkeypatch):
    monkeypatch.setattr(search, "MOST_MESSAGES", 4)
    monkeypatch.setattr(search, "BATCH", 3)
    chat = make_chat(team)
    messages = [make_message(chat, f"harbour {number}") for number in range(10)]
    seen: list[str] = []
    before = None
    while True:
        found = find(team, "harbour", before=before)
        seen += [hit.after for hit in found.hits]
        if not found.more:
            break
        assert found.searched_to == found.hits[-1].message.created_at
        before = found.next

    assert seen == [f" {number}" for number in reversed(range(10))]
    assert found.searched_to == messages[0].created_at


def test_a_search_ends_in_time_and_after_enough_hits(team, monkeypatch):
    chat = make_chat(team)
    for _ in range(3):
        make_message(chat, "harbour")
    monkeypatch.setattr(search, "MOST_HITS", 2)
    assert (len(find(team, "harbour").hits), find(team, "harbour").more) == (2, True)

    monkeypatch.setattr(search, "MOST_SECONDS", -1)
    found = find(team, "harbour")
    assert (len(found.hits), found.more) == (1, True)


def test_a_search_looks_at_the_time_before_it_opens_each_text(team, monkeypatch):
    chat, now, opened = make_chat(team), [0.0], []
    for number in range(6):
        make_turn(chat, f"harbour {number}", "quay")

    def slow(*, content):
        now[0] += search.MOST_SECONDS / 4
        opened.append(content.pk)
        return open_content(content=content)

    monkeypatch.setattr(search, "open_content", slow)
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=lambda: now[0]))
    found = find(team, "harbour")
    assert (len(opened), len(found.hits), found.more) == (5, 2, True)


def test_long_texts_are_read_a_few_at_once_and_each_is_searched(team, monkeypatch):
    monkeypatch.setattr(search, "MOST_AT_ONCE", 5_000)
    chat = make_chat(team)
    for words in ("harbour one", "harbour two " + "x " * 4_000, "harbour three", "nothing", "harbour four"):
        make_turn(chat, words)
    assert [hit.after.split()[0] for hit in find(team, "harbour").hits] == ["four", "three", "two", "one"]


# --- the page ---------------------------------------------------------------------------


def page(team, **query: str):
    client = Client()
    client.force_login(owner_of(team))
    return client.get(reverse("chat_list", args=[team.slug]), query).content.decode()


def test_the_list_shows_what_was_said_as_text_and_leads_there(team):
    turn = make_turn(make_chat(team), "The <b>harbour</b> office\u202e", "None.")

    shown = page(team, q="harbour")

    assert "The &lt;b&gt;<mark>harbour</mark>&lt;/b&gt; office[U+202E]" in shown
    assert f"?m={turn.parent_id}" in shown


def test_the_list_says_how_far_back_it_searched_and_goes_on(team, monkeypatch):
    monkeypatch.setattr(search, "MOST_HITS", 1)
    chat = make_chat(team)
    make_message(chat, "The first harbour")
    newest = make_message(chat, "The second harbour")

    shown = page(team, q="harbour")

    assert "Messages searched back to" in shown
    assert f"said={newest.pk}" in shown
    assert "The first" in page(team, q="harbour", said=str(newest.pk))


def test_a_search_within_what_is_shared_opens_no_message(team):
    make_turn(make_chat(team), "The harbour office")

    assert "<mark>" not in page(team, q="harbour", which="shared")
