import pytest

from personas.conditions import NoNumber, holds, in_words, is_handled
from personas.stages import When


def when(test, value=""):
    return When.model_validate({"stage": "check", "is": test, "value": value})


@pytest.mark.parametrize(
    ("test", "value", "state", "output", "expected"),
    [
        ("equals", "yes", "done", " yes\n", True),
        ("equals", "yes", "done", "Yes", False),
        ("equals", "", "skipped", "", True),
        ("contains", "urgent", "done", "this is urgent.", True),
        ("contains", "urgent", "failed", "", False),
        ("above", "0.8", "done", "0.80", False),
        ("above", "0.8", "done", " 0.9 ", True),
        ("above", "-1e3", "done", "-999", True),
        ("below", "0.8", "done", "0.9", False),
        ("below", "0.8", "skipped", "", False),
        ("above", "0.8", "failed", "", False),
        ("failed", "", "failed", "", True),
        ("failed", "", "skipped", "", False),
        ("done", "", "done", "x", True),
        ("done", "", "failed", "", False),
    ],
)
def test_what_holds(test, value, state, output, expected):
    assert holds(when(test, value), state, output) is expected


@pytest.mark.parametrize("output", ["", "about 3", "NaN", "Infinity", "1,5", "x" * 300])
def test_what_is_no_number_is_said_shortly(output):
    with pytest.raises(NoNumber, match="Stage check should give a number to compare with 3, and gave") as refusal:
        holds(when("above", "3"), "done", output)
    assert len(str(refusal.value)) < 200


def test_a_condition_in_words():
    assert in_words(when("above", " 0.8 ")) == "stage check gives more than 0.8"
    assert in_words(when("failed")) == "stage check fails"


def test_a_stage_is_dealt_with_only_by_a_branch_for_its_own_failure():
    specs = [{"name": "other", "when": None}, {"when": {"stage": "check", "is": "failed"}}]
    assert is_handled("check", specs)
    assert not is_handled("other", specs)
    assert not is_handled("check", [{"when": {"stage": "check", "is": "done"}}])
