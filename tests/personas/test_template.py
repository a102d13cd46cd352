import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas.template import BadReference, check, references, render

KNOWN = {"input.time", "stage.draft.output"}


def test_references_are_found_in_order():
    assert references("{{ stage.a.output }} and {{input.time}}") == ["stage.a.output", "input.time"]


def test_render_fills_references():
    assert render("At {{ input.time }}: {{ stage.draft.output }}", {"input.time": "9", "stage.draft.output": "ok"}) == (
        "At 9: ok"
    )


@pytest.mark.requirement("IN-4")
@pytest.mark.parametrize(
    "text",
    [
        "{{ 7*7 }}",
        "{{ stage.draft.output.__class__ }}",
        "{{ stage.draft.output|safe }}",
        "{{ settings.SECRET_KEY }}",
        "{{ input.time }}{{ constructor }}",
        "{{ ${ENV} }}",
    ],
)
def test_anything_but_a_known_reference_is_refused(text):
    with pytest.raises(BadReference):
        check(text, KNOWN)


def test_a_refusal_names_what_may_be_used():
    with pytest.raises(BadReference, match=r"\{\{ stage\.later\.output \}\} is not known here.*stage\.draft\.output"):
        check("{{ stage.later.output }}", KNOWN)


@pytest.mark.requirement("IN-4")
@given(st.text())
def test_what_is_filled_in_is_never_read_as_a_template(value):
    hostile = value + "{{ input.time }}"
    assert render("{{ stage.draft.output }}", {"stage.draft.output": hostile, "input.time": "leak"}) == hostile


@pytest.mark.requirement("IN-4")
@pytest.mark.parametrize("text", ["{% load x %}", "{0.__class__}", "$HOME", "`id`", "{{{{ }}"])
def test_other_template_languages_are_plain_text(text):
    assert render(text, {}) == text
