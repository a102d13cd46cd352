import hashlib
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from django.db import connection

from audit.actions import store
from audit.models import Content
from tests.factories import make_team
from tests.vault.conftest import AT
from tests.vault.test_box import flips
from vault.box import bind
from vault.content import _facts, open_content, seal_content
from vault.errors import Unreadable
from vault.keys import forget_keys
from vault.models import ContentKey

pytestmark = pytest.mark.django_db
SAID = "Wie viel kostet das? 🖼".encode()


def sealed(team, **changes):
    said = {"team_id": team.pk, "subject": uuid4(), "kind": "prompt", "data": SAID, "at": AT} | changes
    return store(seal_content(**said))


def test_content_is_sealed_and_opened_where_no_root_key_is(team, web_process):
    content = sealed(team)

    read = Content.objects.get(pk=content.pk)

    assert SAID not in bytes(read.ciphertext)
    assert read.sha256 == hashlib.sha256(bytes(read.ciphertext)).hexdigest()
    assert open_content(content=read) == SAID


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"x" * 2_000_000])
def test_content_of_any_size_comes_back_as_it_was(team, data):
    assert open_content(content=sealed(team, data=data)) == data


def test_month_of_the_key_is_counted_in_utc(team):
    subject = uuid4()
    late = datetime(2026, 4, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))

    sealed(team, subject=subject, at=late)
    sealed(team, subject=subject, at=datetime(2026, 4, 1, tzinfo=UTC))

    assert sorted(str(key.month) for key in ContentKey.objects.all()) == ["2026-03-01", "2026-04-01"]


@pytest.mark.requirement("VAULT-5")
@pytest.mark.parametrize("change", ["id", "kind", "team_id"])
def test_content_opens_nowhere_else(team, change):
    content = sealed(team)
    setattr(content, change, {"id": uuid4(), "kind": "response", "team_id": make_team().pk}[change])

    with pytest.raises(Unreadable):
        open_content(content=content)


@pytest.mark.requirement("VAULT-6")
def test_every_flipped_bit_of_content_fails(team):
    content = sealed(team, data=b"")

    for changed in flips(bytes(content.ciphertext)):
        content.ciphertext = changed
        with pytest.raises(Unreadable):
            open_content(content=content)


def test_erased_content_is_unreadable(team):
    content = sealed(team)
    Content.objects.filter(pk=content.pk).update(ciphertext=None)
    content.refresh_from_db()

    with pytest.raises(Unreadable):
        open_content(content=content)


@pytest.mark.requirement("RET-1")
def test_destroying_a_key_makes_one_subjects_month_unreadable_and_nothing_else(team):
    subject = uuid4()
    gone, next_month = sealed(team, subject=subject), sealed(team, subject=subject, at=AT + timedelta(days=31))
    other = sealed(team)
    ContentKey.objects.filter(subject=subject, month="2026-03-01").delete()
    forget_keys()

    with pytest.raises(Unreadable):
        open_content(content=gone)
    assert [open_content(content=kept) for kept in (next_month, other)] == [SAID, SAID]


@pytest.mark.django_db(transaction=True)
def test_warm_process_seals_and_opens_without_asking_the_database(team, django_assert_num_queries):
    subject = uuid4()
    first = seal_content(team_id=team.pk, subject=subject, kind="prompt", data=SAID, at=AT)
    open_content(content=store(first))

    with django_assert_num_queries(0):
        again = seal_content(team_id=team.pk, subject=subject, kind="prompt", data=SAID, at=AT)
        row = Content(id=again.id, team_id=team.pk, kind="prompt", ciphertext=again.ciphertext)
        assert open_content(content=row) == SAID
    connection.close()


def test_prepared_facts_are_what_bind_makes():
    team_id, content_id = uuid4(), uuid4()

    assert _facts(team_id, content_id, "prompt") == bind(
        b"definable/vault/v1", team_id.bytes, b"audit.content.ciphertext", content_id.bytes, b"prompt"
    )
