import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from audit.actions import Actor, Entry, record, record_all, store
from audit.canon import canon
from audit.ids import uuid7
from audit.models import Content, Event
from audit.months import make_months
from audit.schema import next_month
from tests.audit.builders import OWNER, make_call, make_event, sealed
from tests.factories import make_team
from vault.content import open_content

pytestmark = pytest.mark.django_db
REFUSED = "append-only|erased, not changed"


def rows(sql: str, *values) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


# --- writing ----------------------------------------------------------------------------


def test_event_is_stored_as_it_was_returned():
    event = make_event(
        make_team(),
        "call.finished",
        target="connection:1",
        target_name="Main",
        outcome="done",
        persona_id=uuid7(),
        persona_name="Reader",
        run_id=uuid7(),
        tool="create_chat_completion",
        model="openai/gpt-5",
        call_id=uuid7(),
        generation_id="gen-1",
        request_sha256="a" * 64,
        cost_usd=Decimal("0.000123"),
        credits=3,
        details={"state": "done"},
    )
    stored = Event.objects.get(pk=event.pk)
    columns = [field.attname for field in Event._meta.concrete_fields]
    assert {c: getattr(event, c) for c in columns} == {
        c: bytes(stored.canon) if c == "canon" else getattr(stored, c) for c in columns
    }


def test_canonical_bytes_say_what_the_columns_say():
    stored = Event.objects.get(pk=make_event(make_team(), cost_usd=Decimal("1.25"), details={"n": 1}).pk)
    columns = [field.attname for field in Event._meta.concrete_fields if field.attname != "canon"]
    assert canon({column: getattr(stored, column) for column in columns}) == bytes(stored.canon)


@pytest.mark.parametrize("cost", ["0.00014250000000000002", "0.0000000000005", "12345678.1234567890125"])
def test_a_price_finer_than_the_log_is_rounded_alike_in_column_and_canonical_bytes(cost):
    stored = Event.objects.get(pk=make_event(make_team(), cost_usd=Decimal(cost)).pk)
    assert rows("SELECT %s::numeric(20, 12)", cost) == [(stored.cost_usd,)]
    assert json.loads(bytes(stored.canon))["cost_usd"] == int(stored.cost_usd * 10**12)


def test_many_events_are_written_as_one_is():
    team, at = make_team(), datetime.now(UTC)
    said = {"target": "run:1", "target_name": "Digest", "outcome": "done", "run_id": uuid7(), "details": {"n": 1}}
    one = record("run.done", actor=OWNER, team_id=team.pk, at=at, **said)
    record_all(Entry("run.done", OWNER, team.pk, at, **said) for _ in range(3))
    record_all([])
    found = Event.objects.filter(run_id=said["run_id"])
    assert found.count() == 4
    columns = [field.attname for field in Event._meta.concrete_fields if field.attname != "canon"]
    for event in found:
        assert canon({column: getattr(event, column) for column in columns}) == bytes(event.canon)
        assert bytes(event.canon).replace(str(event.id).encode(), str(one.id).encode()) == bytes(one.canon)


def test_event_without_a_time_gets_the_database_clock(clock):
    clock(hours=3)
    event = record("test.happened", actor=OWNER, team_id=None)
    assert rows("SELECT app_now() - %s < interval '1 minute', %s > now() + interval '2 hours'", event.at, event.at) == [
        (True, True)
    ]


def test_event_carries_the_hash_of_the_ciphertext_not_of_the_words():
    team = make_team()
    started, _ = make_call(team)
    content = Content.objects.get(pk=started.content_id)
    assert hashlib.sha256(bytes(content.ciphertext)).hexdigest() == started.content_sha256 == content.sha256
    assert b"lease" not in bytes(content.ciphertext)


def test_stored_content_opens_again():
    team = make_team()
    row = store(sealed(team, "stage", b"some text", datetime.now(UTC)))
    assert open_content(content=Content.objects.get(pk=row.pk)) == b"some text"


def test_event_rolls_back_with_the_deed():
    team = make_team()
    with pytest.raises(RuntimeError), transaction.atomic():
        make_call(team)
        raise RuntimeError
    assert not Event.objects.filter(team_id=team.pk).exists()
    assert not Content.objects.filter(team_id=team.pk).exists()


@pytest.mark.requirement("AUD-7")
def test_the_deed_rolls_back_when_its_event_cannot_be_written():
    team = make_team(name="Before")
    with pytest.raises(DatabaseError), transaction.atomic():
        team.name = "After"
        team.save(update_fields=["name"])
        record("a" * 81, actor=OWNER, team_id=team.pk)
    team.refresh_from_db()
    assert team.name == "Before"


def test_actor_of_the_installation_is_named_after_its_part():
    assert Actor.system("sweeper") == Actor("system", "sweeper", "sweeper")


# --- append-only ------------------------------------------------------------------------


def partition_of(event: Event) -> str:
    return rows("SELECT tableoid::regclass::text FROM audit_event WHERE id = %s", event.pk)[0][0]


@pytest.mark.parametrize("column", [f.attname for f in Event._meta.concrete_fields])
def test_no_column_of_an_event_can_be_updated(column):
    event = make_event(make_team())
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        rows(f"UPDATE audit_event SET {column} = {column} WHERE id = %s", event.pk)


@pytest.mark.parametrize("deed", ["UPDATE {} SET outcome = 'done'", "DELETE FROM {}"])
@pytest.mark.parametrize("ago", [0, 400 * 24 * 3600])
def test_event_cannot_be_changed_through_its_partition_either(deed, ago):
    event = make_event(make_team(), ago=ago)
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        rows(deed.format(partition_of(event)) + " WHERE id = %s", event.pk)
    assert Event.objects.filter(pk=event.pk).exists()


def test_event_cannot_be_deleted():
    event = make_event(make_team())
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        Event.objects.filter(pk=event.pk).delete()


def test_event_cannot_be_moved_to_another_month():
    event = make_event(make_team())
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        rows("UPDATE audit_event SET at = at + interval '40 days' WHERE id = %s", event.pk)


def test_content_can_be_erased():
    started, _ = make_call(make_team())
    Content.objects.filter(pk=started.content_id).update(ciphertext=None)
    erased = Content.objects.get(pk=started.content_id)
    assert (erased.ciphertext, erased.sha256) == (None, started.content_sha256)


@pytest.mark.parametrize(
    "deed",
    [
        "UPDATE audit_content SET ciphertext = 'x'",
        "UPDATE audit_content SET ciphertext = NULL, sha256 = 'x'",
        "UPDATE audit_content SET ciphertext = NULL, kind = 'x'",
        "UPDATE audit_content SET ciphertext = NULL, team_id = gen_random_uuid()",
        "DELETE FROM audit_content",
    ],
)
def test_content_can_be_changed_in_no_other_way(deed):
    started, _ = make_call(make_team())
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        rows(deed + " WHERE id = %s", started.content_id)


def test_erased_content_stays_erased():
    started, _ = make_call(make_team())
    Content.objects.filter(pk=started.content_id).update(ciphertext=None)
    with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        Content.objects.filter(pk=started.content_id).update(ciphertext=b"again")


# --- months -----------------------------------------------------------------------------


def partitions(table: str) -> set[str]:
    return {
        name
        for (name,) in rows("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", table)
    }


@pytest.mark.parametrize("table", ["audit_event", "audit_content", "integrations_call"])
def test_three_months_are_made_ahead(table, clock):
    clock(days=200)
    make_months()
    (month,) = rows("SELECT date_trunc('month', app_now() AT TIME ZONE 'UTC')::date")[0]
    wanted = set()
    for _ in range(4):
        wanted.add(f"{table}_{month:%Y_%m}")
        month = next_month(month)
    assert wanted <= partitions(table)


def test_making_months_twice_changes_nothing():
    make_months()
    before = partitions("audit_event")
    make_months()
    assert partitions("audit_event") == before


def test_event_of_a_month_that_was_not_made_is_kept_and_warned_about(capsys):
    event = make_event(make_team(), ago=400 * 24 * 3600)
    make_months()
    assert partition_of(event) == "audit_event_default"
    assert "partition.default_hit" in capsys.readouterr().err
