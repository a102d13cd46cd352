"""docs/requirements.md and the marks of the tests say the same."""

import re
from pathlib import Path

import pytest

from tests.requirements import proofs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "requirements.md"
LINE = re.compile(r"^\| ([A-Z]+-\d+) \| [^|]+ \| ([a-z ]+) \| (.+) \|$", re.MULTILINE)
PROVEN = {"proven", "amended"}
MARKED = {id: {test.partition("::")[0] for test in tests} for id, tests in proofs().items()}
LINES = {id: (state, note) for id, state, note in LINE.findall(PAGE.read_text())}


def test_every_requirement_has_one_line_and_a_known_state():
    ids = [id for id, _, _ in LINE.findall(PAGE.read_text())]
    assert len(ids) == len(set(ids)) == 194
    assert {state for state, _ in LINES.values()} <= PROVEN | {"later", "does not apply"}


def test_what_the_page_calls_proven_has_a_test_and_the_other_way_round():
    on_the_page = {id for id, (state, _) in LINES.items() if state in PROVEN}
    marked = set(MARKED)
    assert marked - on_the_page == set(), "marked, but not proven or amended in docs/requirements.md"
    assert on_the_page - marked == set(), "proven in docs/requirements.md, but no test is marked"


@pytest.mark.parametrize("id", sorted(id for id, (state, _) in LINES.items() if state in PROVEN))
def test_the_page_names_files_that_prove_the_line(id):
    named = {f"tests/{name}" for name in re.findall(r"`([\w/]+\.py)`", LINES[id][1])}
    assert named
    assert named <= MARKED[id]


def test_what_is_amended_or_does_not_apply_says_why():
    silent = [id for id, (state, note) in LINES.items() if state == "amended" and ": " not in note]
    assert silent == []
