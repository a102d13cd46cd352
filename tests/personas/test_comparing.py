"""What changed between two texts or two versions, decided without a database."""

import random
import time
from decimal import Decimal

import pytest

from personas.comparing import Kind, Setting, Unit, compare_settings, compare_texts, in_a_sentence
from personas.models import PersonaVersion

MOST_SECONDS = 1.0
LONGEST = 100_000


def rebuilt(comparison) -> tuple[str, str]:
    """Both texts again, out of the pieces."""
    old = "".join(piece.text for piece in comparison.pieces if piece.kind != Kind.ADDED)
    new = "".join(piece.text for piece in comparison.pieces if piece.kind != Kind.REMOVED)
    return old, new


def shown(comparison) -> list[tuple[str, str]]:
    return [(piece.kind.value, piece.text) for piece in comparison.pieces]


def words(count: int, choice: int, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join(f"w{chance.randrange(choice)}" for _ in range(count))


def test_one_changed_word_is_one_word_out_and_one_in():
    found = shown(compare_texts("Be brief and kind.", "Be exact and kind."))
    assert found == [("same", "Be"), ("removed", " brief"), ("added", " exact"), ("same", " and kind.")]


def test_words_at_the_end_leave_the_words_before_alone():
    assert shown(compare_texts("Be brief.", "Be brief. Always.")) == [("same", "Be brief."), ("added", " Always.")]


def test_the_same_text_has_not_changed():
    same = compare_texts("Be brief.", "Be brief.")
    assert (same.changed, shown(same)) == (False, [("same", "Be brief.")])


@pytest.mark.parametrize(("old", "new"), [("", "Be brief."), ("Be brief.", ""), ("", "")])
def test_an_empty_text_is_compared_too(old, new):
    assert rebuilt(compare_texts(old, new)) == (old, new)


def test_a_blank_that_changed_is_a_change():
    assert compare_texts("a b", "a\nb").changed


HARD = {
    "few words": (words(30_000, 3, 1)[:LONGEST], words(30_000, 3, 2)[:LONGEST]),
    "many words": (words(18_000, 5_000, 1)[:LONGEST], words(18_000, 5_000, 2)[:LONGEST]),
    "empty lines": ("\n" * LONGEST, "\n" * (LONGEST - 1) + "x"),
    "short lines": (words(20_000, 150, 1).replace(" ", "\n"), words(20_000, 150, 2).replace(" ", "\n")),
    "one word": ("x" * LONGEST, "y" * LONGEST),
    "blanks": (" " * LONGEST, "\t" * LONGEST),
    "most words": (words(2_000, 190, 1), words(2_000, 190, 2)),
    "backwards": (" ".join(map(str, range(2_000))), " ".join(map(str, reversed(range(2_000))))),
}


@pytest.mark.parametrize(("old", "new"), HARD.values(), ids=HARD)
def test_the_longest_texts_are_compared_at_once_and_lose_no_character(old, new):
    start = time.process_time()
    found = compare_texts(old, new)
    assert time.process_time() - start < MOST_SECONDS
    assert rebuilt(found) == (old, new)


def test_one_word_in_the_longest_text_is_still_found_by_words():
    text = words(18_000, 2_000, 1)
    found = compare_texts(text, text[:50_000] + " new " + text[50_000:])
    assert found.unit == Unit.WORD
    assert sum(len(piece.text) for piece in found.pieces if piece.kind == Kind.ADDED) < 30


def test_where_much_differs_lines_are_compared():
    old = "".join(f"line {number} of many words that stay\n" for number in range(900))
    new = "".join(line.replace("stay", "go") if line[5] in "18" else line for line in old.splitlines(keepends=True))
    found = compare_texts(old, new)
    assert found.unit == Unit.LINE
    assert all(piece.text.endswith("\n") for piece in found.pieces)


# --- settings ---------------------------------------------------------------------------


def version(**what) -> PersonaVersion:
    given = {"chain": ["openai/gpt-5-mini"], "routing": "order", "temperature": None, "max_tokens": 256}
    return PersonaVersion(**given | what)


def test_settings_that_are_equal_are_not_listed():
    assert compare_settings(version(temperature=Decimal("0.7")), version(temperature=Decimal("0.70"))) == []


def test_settings_that_differ_are_listed_in_words():
    old = version()
    new = version(chain=["a/b", "c/d"], routing="cheapest", temperature=Decimal("0.5"), max_tokens=2048)
    assert compare_settings(old, new) == [
        Setting("Models", "openai/gpt-5-mini", "a/b, then c/d"),
        Setting("Asked first", "In the order given", "The cheapest that fits"),
        Setting("Longest answer", "256 tokens", "2,048 tokens"),
        Setting("Temperature", "the model's own", "0.50"),
    ]


def test_a_sentence_names_what_changed_and_what_it_was():
    changed = [Setting("Temperature", "0.20", "0.70")]
    said = "Instructions changed, 1,200 characters, were 9; Temperature 0.70, was 0.20."
    assert in_a_sentence(changed, (9, 1200)) == said
    assert in_a_sentence([], None) == "Nothing in what it is told."
