"""Titles of chats by themselves: plain words out of whatever was said first."""

import time

import pytest
from django.template import Context, Template

from personas.chat import keeping, sending, titles
from personas.models import Chat
from tests.factories import make_team, owner_of
from tests.personas.builders import make_persona


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("", ""),
        (" \n\t", ""),
        ("Plan the harbour festival", "Plan the harbour festival"),
        ("Plan the harbour festival. It has a budget of 500 dollars.", "Plan the harbour festival."),
        ("Hi. Compare these two offers", "Hi. Compare these two offers"),
        ("# Heading\n\n**Bold** and `code` and _more_", "Heading Bold and code and more"),
        ("sp**ea**king **港**の祭り, **one**two ~~no~~yes", "speaking 港の祭り, onetwo noyes"),
        ("**Q:**What? - **Budget** left open **", "Q:What? - Budget left open"),
        ("2**3**4 and 2 ** 3 stay", "2**3**4 and 2 ** 3 stay"),
        ("snake_case_name stays", "snake_case_name stays"),
        ("1. first\n2. second", "first second"),
        ("See [the page](https://example.com/a?b=c)", "See the page"),
        ("Read https://www.example.com/very/long?path=1 for me", "Read example.com for me"),
        ("```py\nprint(1)\n```\nWhat does it do?", "What does it do?"),
        ("```py\nprint(1)\n```", "py print(1)"),
        ("a\u202eb\u2066c\x00d\x1b[31m", "abcd[31m"),
        ("half \ud83d pair", "half pair"),
        ("👩‍🚒 on a ladder", "👩‍🚒 on a ladder"),
        (
            "港の祭りを計画してください。予算は五百ドルです。できるだけ早くお願いします。",
            "港の祭りを計画してください。予算は五百ドルです。できるだけ早くお願いします。",
        ),
        ("word " * 40, "word word word word word word word word word word word word…"),
        ("x" * 200, "x" * 59 + "…"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_a_title_is_plain_words_on_one_line(said, title):
    assert titles.of_text(said) == title


@pytest.mark.parametrize("piece", ["[", "](", "```\n", "* ", "http://", "_a", "a**b", "a.", "> "])
def test_no_text_takes_long(piece):
    begun = time.monotonic()

    assert len(titles.of_text(piece * 100_000)) <= titles.LONGEST
    assert time.monotonic() - begun < 1


def test_a_hostile_title_stays_text_on_a_page():
    chat = Chat(title=titles.of_text('"><img src=x onerror=alert(1)>'))

    assert Template("{{ chat }}").render(Context({"chat": chat})).startswith("&quot;&gt;&lt;img")


@pytest.mark.django_db
def test_a_title_given_by_hand_stays():
    team = make_team()
    by = owner_of(team)
    message = sending.start_chat(
        team=team, persona=make_persona(team), by=by, text="A quiet harbour", idempotency_key="a"
    )
    assert message.chat.title == "A quiet harbour"

    keeping.rename(chat=message.chat, title="Mine", by=by)
    sending.edit(message=message, by=by, text="Something else", idempotency_key="b")

    message.chat.refresh_from_db()
    assert message.chat.title == "Mine"


@pytest.mark.django_db
def test_a_temporary_chat_is_called_that():
    team = make_team()
    message = sending.start_chat(
        team=team, persona=make_persona(team), by=owner_of(team), text="Secret", temporary=True, idempotency_key="a"
    )

    assert message.chat.title == "Temporary chat"
