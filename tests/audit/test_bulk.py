"""Rows that are inserted together are what they would be one by one."""

from uuid import uuid4

import pytest
from django.db import DataError

from audit.bulk import insert_alike
from audit.clock import app_now
from audit.models import Content, Event

pytestmark = pytest.mark.django_db


def pattern(**same) -> Event:
    said = {
        "at": app_now(),
        "actor_kind": "system",
        "actor_id": "x",
        "actor_name": "x",
        "action": "a",
        "canon": b"\x00\\",
    }
    return Event(**(said | same))


def test_what_differs_is_of_each_row_and_the_rest_of_the_pattern():
    rows = [
        {"id": uuid4(), "details": {"a": 'x"\\'}, "team_id": None},
        {"id": uuid4(), "details": {}, "team_id": uuid4()},
    ]
    insert_alike(pattern(), rows)
    kept = {event.pk: event for event in Event.objects.all()}
    for row in rows:
        event = kept.pop(row["id"])
        assert (event.details, event.team_id) == (row["details"], row["team_id"])
        assert (bytes(event.canon), event.tool, event.credits) == (b"\x00\\", "", None)
    assert kept == {}


def test_bytes_may_differ_too():
    same = {"at": app_now(), "team_id": uuid4(), "subject": uuid4(), "kind": "output", "sha256": "0" * 64}
    rows = [{"id": uuid4(), "ciphertext": text} for text in (b"", b"\x00'\"\\{},", None)]
    insert_alike(Content(**same), rows)
    for row in rows:
        assert Content.objects.get(pk=row["id"]).ciphertext == row["ciphertext"]


def test_a_text_that_is_too_long_is_refused_and_not_cut():
    with pytest.raises(DataError):
        insert_alike(pattern(tool="x" * 81), [{"id": uuid4()}])


def test_nothing_is_inserted_when_there_are_no_rows(django_assert_num_queries):
    event = pattern()
    with django_assert_num_queries(0):
        insert_alike(event, [])
