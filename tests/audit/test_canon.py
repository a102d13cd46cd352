import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.canon import canon, exact_usd

FIELDS = {
    "team_id": None,
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "id": UUID("0190c7f0-0000-7000-8000-000000000001"),
    "cost_usd": Decimal("0.000000000001"),
    "credits": 3,
    "details": {"b": [1, None], "a": "é"},
}


def test_canonical_bytes_are_these_bytes():
    assert canon(FIELDS) == (
        b'{"at":1767323045678901,"cost_usd":1,"credits":3,"details":{"a":"\xc3\xa9","b":[1,null]},'
        b'"id":"0190c7f0-0000-7000-8000-000000000001","schema":1,"team_id":null}'
    )


def test_canonical_bytes_do_not_depend_on_the_order_of_fields():
    assert canon(dict(reversed(FIELDS.items()))) == canon(FIELDS)


def test_canonical_bytes_do_not_depend_on_the_zone_a_time_is_written_in():
    there = FIELDS["at"].astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert canon(FIELDS | {"at": there}) == canon(FIELDS)


def test_canonical_bytes_do_not_depend_on_the_zeros_of_an_amount():
    assert canon({"cost_usd": Decimal("1.50")}) == canon({"cost_usd": Decimal("1.5")})


@given(st.integers(min_value=0, max_value=10**20 - 1))
def test_every_amount_the_log_can_hold_is_written_exactly(picos):
    amount = Decimal(picos).scaleb(-12)
    assert json.loads(canon({"cost_usd": exact_usd(amount)}))["cost_usd"] == picos


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_every_time_is_written_to_the_microsecond(at):
    micros = json.loads(canon({"at": at}))["at"]
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros) == at


@pytest.mark.parametrize("value", [0.1, {"ms": 0.1}, [1.0], float("nan"), b"bytes", {1, 2}])
def test_what_has_more_than_one_spelling_is_refused(value):
    with pytest.raises(TypeError):
        canon({"details": value})


def test_dollars_finer_than_the_log_are_refused_not_rounded_in_silence():
    with pytest.raises(ValueError, match="twelve decimals"):
        canon({"cost_usd": Decimal("0.0000000000001")})


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(TypeError):
        canon({"at": datetime(2026, 1, 1)})
