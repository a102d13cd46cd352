"""What is remembered of texts, and what is not."""

import json

import pytest

from integrations import scopes, standing
from integrations.remembering import LONGEST, remember_short


def test_a_short_text_is_read_once_and_a_long_one_each_time():
    read = []
    made = remember_short(lambda text: read.append(text) or len(text))
    short, long = "a" * LONGEST, "a" * (LONGEST + 1)
    assert [made(short), made(short), made(long), made(long)] == [LONGEST, LONGEST, LONGEST + 1, LONGEST + 1]
    assert read == [short, long, long]


def test_a_fault_is_not_remembered():
    with pytest.raises(ValueError):
        remember_short(int)("x")
    assert remember_short(int)("1") == 1


@pytest.mark.parametrize("read", [standing.read_grant, scopes._allowed_tools])
def test_a_large_grant_is_read_without_being_kept(read):
    small = json.dumps({"tools": {"list_providers": "allowed"}})
    large = json.dumps({"tools": {f"tool_{number}": "allowed" for number in range(900)}})
    assert len(large) > LONGEST
    assert read(small) is read(small)
    assert read(large) == read(large)
    assert read(large) is not read(large)
