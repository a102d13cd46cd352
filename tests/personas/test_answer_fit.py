import json

import pytest

from personas.answer_fit import problem_of_answer

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
        "next": {"$ref": "#"},
        "who": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        "one": {"oneOf": [{"type": "number"}, {"minimum": 5}]},
        "all": {"allOf": [{"type": "string"}, {"const": "yes"}]},
    },
    "required": ["title"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"title": "a"}, ""),
        ({"title": "a", "score": 1, "tags": ["a"], "who": None, "all": "yes", "next": {"title": "b"}}, ""),
        ({}, "the answer has no “title”."),
        ({"title": 3}, "the answer.title should be string."),
        ({"title": "too long"}, "the answer.title should be at most 5 long."),
        ({"title": "a", "score": 1.5}, "the answer.score should be at most 1."),
        ({"title": "a", "score": True}, "the answer.score should be number."),
        ({"title": "a", "tags": []}, "the answer.tags should be at least 1 long."),
        ({"title": "a", "tags": ["a", "c"]}, 'the answer.tags.2 is "c", which is none of ["a", "b"].'),
        ({"title": "a", "more": 1}, "the answer.more is not expected."),
        ({"title": "a", "next": {}}, "the answer.next has no “title”."),
        ({"title": "a", "who": "x"}, "the answer.who fits none of the forms it may have."),
        ({"title": "a", "one": 7}, "the answer.one fits more than one of the forms it may have."),
        ({"title": "a", "all": "no"}, 'the answer.all is "no", which is none of ["yes"].'),
        ([], "the answer should be object."),
    ],
)
def test_what_keeps_an_answer_from_fitting_is_named_with_its_place(answer, problem):
    assert problem_of_answer(SCHEMA, json.dumps(answer)) == problem


@pytest.mark.parametrize("text", ["", "Here it is: {}", '{"title": "a"', "[" * 100_000])
def test_what_is_no_json_is_said(text):
    assert problem_of_answer(SCHEMA, text) == "The answer is not JSON."


def test_a_schema_that_names_itself_ends():
    loop = {"type": "object", "properties": {}, "allOf": [{"$ref": "#"}]}
    assert "nested too deeply" in problem_of_answer(loop, "{}")
