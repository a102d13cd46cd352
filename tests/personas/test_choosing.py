"""What a model is shown of a request when it chooses who is to answer it."""

import pytest

from integrations.catalog import UNKNOWN
from personas import choosing
from personas.routing import Candidate

SYSTEM = {"role": "system", "content": "Never show this"}


@pytest.mark.parametrize(
    "messages",
    [
        [SYSTEM, {"role": "user", "content": "Draw a boat"}],
        [SYSTEM, {"role": "user", "content": "Draw a boat"}, {"role": "tool", "content": "Rain", "tool_call_id": "a"}],
        [
            SYSTEM,
            {"role": "user", "content": "Before"},
            {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Draw a boat"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Rain"}]},
        ],
    ],
)
def test_it_is_shown_what_was_asked_last_in_words(messages):
    asked = choosing.question([Candidate("a/one"), Candidate("a/two")], messages, UNKNOWN)

    text = asked["messages"][-1]["content"]
    assert text.startswith("The request:\nDraw a boat\n\nThe models:\n1. a/one")
