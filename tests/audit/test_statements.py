"""Several statements in one round trip: all are carried out in order, and each gets its own answer."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from psycopg.types.json import Jsonb

from audit.statements import Statement, one_round_trip, run

pytestmark = pytest.mark.django_db


class Refused(Exception):
    """What a statement may raise when it reads its rows."""


def first(rows):
    return rows[0][0]


def refuse(rows):
    raise Refused


def say(value) -> Statement:
    return Statement("SELECT %(value)s", {"value": value}, first)


@pytest.fixture
def tides():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE tides (height int PRIMARY KEY) ON COMMIT DROP")


def insert(height: int, read=lambda rows: None) -> Statement:
    return Statement("INSERT INTO tides VALUES (%(height)s) RETURNING height", {"height": height}, read)


def heights() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT height FROM tides ORDER BY height")
        return [height for (height,) in cursor.fetchall()]


@pytest.mark.parametrize(
    "value",
    [
        "it's 100% \\ %(value)s %s ; DROP TABLE tides; --",
        "",
        -7,
        True,
        None,
        Decimal("-0.000000000001"),
        uuid4(),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    ],
)
def test_a_value_comes_back_as_it_was_given(value):
    with one_round_trip() as trip:
        said = trip.add(say(value))

    assert said.meaning == value == run(say(value))


def test_bytes_lists_and_json_come_back_as_they_were_given():
    lists = Statement("SELECT %(value)s::text[]", {"value": ["a'", "%s"]}, first)
    with one_round_trip() as trip:
        data, names, facts = trip.add(say(b"\x00'%\xff")), trip.add(lists), trip.add(say(Jsonb({"a": "'%"})))

    assert (bytes(data.meaning), names.meaning, facts.meaning) == (b"\x00'%\xff", ["a'", "%s"], '{"a": "\'%"}')


def test_statements_are_carried_out_in_order_with_those_of_cursors_between(tides):
    count = Statement("SELECT count(*) FROM tides", {}, first)
    with one_round_trip() as trip:
        before = trip.add(count)
        trip.add(insert(1))
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO tides VALUES (%(height)s)", {"height": 2})
        after = trip.add(count)

    assert (before.meaning, after.meaning, heights()) == (0, 2, [1, 2])


def test_nothing_is_sent_when_the_block_fails(tides):
    with pytest.raises(Refused), one_round_trip() as trip:
        trip.add(insert(1))
        raise Refused

    assert heights() == []


def test_an_answer_that_refuses_undoes_those_after_it_with_the_transaction(tides):
    with pytest.raises(Refused), transaction.atomic(), one_round_trip() as trip:
        trip.add(insert(1, refuse))
        trip.add(insert(2))

    assert heights() == []


def test_the_first_refusal_counts():
    with pytest.raises(Refused), one_round_trip() as trip:
        trip.add(Statement("SELECT 1", {}, refuse))
        trip.add(Statement("SELECT 1", {}, lambda rows: 1 / 0))


def test_an_error_of_the_database_is_raised_as_by_any_statement(tides):
    with pytest.raises(IntegrityError), transaction.atomic(), one_round_trip() as trip:
        trip.add(insert(1))
        trip.add(insert(1))

    assert heights() == []
