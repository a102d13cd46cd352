from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import connection, transaction

from tests.factories import make_team
from vault import keys
from vault.box import Key, new_key
from vault.cache import KeyCache
from vault.errors import Unreadable, WrongProcess
from vault.keys import LEASE, Purpose, content_key, content_key_by_id, forget_keys, team_key, team_key_by_id
from vault.models import CONTENT_KEY_USES, ContentKey, TeamKey

pytestmark = pytest.mark.django_db


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at_once(work, count: int = 8) -> list:
    """Run the same work in many threads, each with its own connection, starting together."""
    start = Barrier(count)

    def run(_number: int):
        start.wait()
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


# --- memory -------------------------------------------------------------------------------------


def test_cache_forgets_after_its_time():
    clock = Clock()
    cache = KeyCache(seconds=60, clock=clock)
    cache.put("name", 1)

    clock.now = 60
    assert cache.get("name") == 1
    clock.now = 60.1
    assert cache.get("name") is None


def test_cache_makes_room_by_dropping_the_oldest():
    cache = KeyCache(entries=2)

    for name in ("a", "b", "a", "c"):
        cache.put(name, name)

    assert [cache.get(name) for name in ("a", "b", "c")] == ["a", None, "c"]


@pytest.mark.django_db(transaction=True)
def test_cache_keeps_a_value_only_when_the_transaction_commits():
    cache = KeyCache()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        cache.put_after_commit("lost", 1)
        raise ZeroDivisionError
    with transaction.atomic():
        cache.put_after_commit("kept", 1)

    assert (cache.get("lost"), cache.get("kept")) == (None, 1)


def test_cache_shows_a_waiting_value_to_its_own_transaction_until_that_rolls_back():
    cache, other = KeyCache(), KeyCache()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        cache.put_after_commit("name", 1)
        assert (cache.get("name"), other.get("name")) == (1, None)
        cache.clear()
        assert cache.get("name") is None
        cache.put_after_commit("name", 2)
        assert cache.get("name") == 2
        raise ZeroDivisionError

    assert cache.get("name") is None


# --- team keys ----------------------------------------------------------------------------------


def test_team_key_is_made_once_per_purpose(team):
    ids = {purpose: team_key(team.pk, purpose).id for purpose in Purpose}

    assert ids == {purpose: team_key(team.pk, purpose).id for purpose in Purpose}
    assert TeamKey.objects.filter(team=team).count() == 3


@pytest.mark.django_db(transaction=True)
def test_first_use_by_many_threads_makes_one_team_key(team):
    made = at_once(lambda: team_key(team.pk, Purpose.CREDENTIAL).id)

    assert len(set(made)) == 1
    assert TeamKey.objects.filter(team=team).count() == 1


def test_retired_team_key_opens_and_the_newest_wraps(team):
    old = team_key(team.pk, Purpose.CREDENTIAL)
    forget_keys()
    TeamKey.objects.filter(pk=old.id).update(retired_at=datetime.now(UTC))
    raw, id = new_key(), uuid4()
    root = keys.credential_root()
    TeamKey.objects.create(
        id=id,
        team=team,
        purpose=Purpose.CREDENTIAL,
        version=2,
        root_key=root.current_id(),
        wrapped=root.wrap(raw, keys.facts_of_key(team.pk, Purpose.CREDENTIAL, id, 2)),
        check_value=keys.check_value(raw),
    )

    assert team_key(team.pk, Purpose.CREDENTIAL).id == id
    assert team_key_by_id(team.pk, Purpose.CREDENTIAL, old.id).id == old.id


@pytest.mark.requirement("VAULT-6")
@pytest.mark.parametrize("column", ["wrapped", "check_value"])
def test_changed_team_key_is_unreadable(team, column):
    row = TeamKey.objects.get(pk=team_key(team.pk, Purpose.CREDENTIAL).id)
    value = bytes(getattr(row, column))
    TeamKey.objects.filter(pk=row.pk).update(**{column: value[:-1] + bytes([value[-1] ^ 1])})
    forget_keys()

    with pytest.raises(Unreadable):
        team_key(team.pk, Purpose.CREDENTIAL)


@pytest.mark.requirement("VAULT-5")
def test_team_key_moved_to_another_team_or_purpose_or_version_is_unreadable(team):
    other = make_team()
    sources = {
        (place.pk, purpose): TeamKey.objects.get(pk=team_key(place.pk, purpose).id)
        for place in (team, other)
        for purpose in Purpose
    }
    forget_keys()

    for (place_id, purpose), target in sources.items():
        for source in sources.values():
            if source.pk == target.pk:
                continue
            with transaction.atomic():
                TeamKey.objects.filter(pk=target.pk).update(wrapped=source.wrapped, check_value=source.check_value)
                with pytest.raises(Unreadable):
                    team_key(place_id, purpose)
                transaction.set_rollback(True)
        TeamKey.objects.filter(pk=target.pk).update(version=7)
        with pytest.raises(Unreadable):
            team_key(place_id, purpose)


def test_team_key_of_another_team_is_not_found_by_id(team):
    key = team_key(team.pk, Purpose.CONTENT)

    with pytest.raises(Unreadable):
        team_key_by_id(make_team().pk, Purpose.CONTENT, key.id)
    with pytest.raises(Unreadable):
        team_key_by_id(team.pk, Purpose.CREDENTIAL, key.id)


def test_web_process_unwraps_content_keys_only(team, web_process):
    assert isinstance(team_key(team.pk, Purpose.CONTENT), Key)
    for purpose in (Purpose.CREDENTIAL, Purpose.MAC):
        with pytest.raises(WrongProcess):
            team_key(team.pk, purpose)


# --- content keys -------------------------------------------------------------------------------


def test_content_key_is_one_per_team_subject_and_month(team):
    subject, other = uuid4(), make_team()

    ids = [
        content_key(*place).id
        for place in [
            (team.pk, subject, 2026, 3),
            (team.pk, subject, 2026, 3),
            (team.pk, subject, 2026, 4),
            (team.pk, uuid4(), 2026, 3),
            (other.pk, subject, 2026, 3),
        ]
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


@pytest.mark.django_db(transaction=True)
def test_first_use_by_many_threads_makes_one_content_key(team):
    subject = uuid4()

    made = at_once(lambda: content_key(team.pk, subject, 2026, 3).id)

    assert len(set(made)) == 1
    assert ContentKey.objects.filter(team=team).count() == 1
    assert TeamKey.objects.filter(team=team).count() == 1


@pytest.mark.requirement("VAULT-4")
@pytest.mark.django_db(transaction=True)
def test_used_up_content_key_hands_over_to_the_next(team):
    subject = uuid4()
    first = content_key(team.pk, subject, 2026, 3).id
    ContentKey.objects.filter(pk=first).update(uses=CONTENT_KEY_USES - LEASE)

    made = []
    for _ in range(3):
        forget_keys()
        made.append(content_key(team.pk, subject, 2026, 3).id)

    assert (made[0] == first, made[1] == first, made[1] == made[2]) == (True, False, True)
    assert list(ContentKey.objects.order_by("number").values_list("number", "uses")) == [
        (1, CONTENT_KEY_USES),
        (2, 2 * LEASE),
    ]


@pytest.mark.requirement("VAULT-4")
@pytest.mark.django_db(transaction=True)
def test_uses_are_counted_by_the_lease_and_cost_no_query_between(team, django_assert_num_queries):
    subject = uuid4()
    content_key(team.pk, subject, 2026, 3)

    with django_assert_num_queries(0):
        for _ in range(LEASE - 1):
            content_key(team.pk, subject, 2026, 3)
    assert ContentKey.objects.get().uses == LEASE
    content_key(team.pk, subject, 2026, 3)
    assert ContentKey.objects.get().uses == 2 * LEASE


@pytest.mark.requirement("VAULT-4")
@pytest.mark.django_db(transaction=True)
def test_threads_never_make_more_uses_than_were_counted(team):
    subject, each = uuid4(), 3 * LEASE // 8

    at_once(lambda: [content_key(team.pk, subject, 2026, 3) for _ in range(each)])

    assert ContentKey.objects.get().uses >= 8 * each


@pytest.mark.django_db(transaction=True)
def test_sealing_locks_no_row_of_a_key_that_is_there(team):
    """Two transactions that seal for two subjects in opposite order both go through."""
    subjects = [uuid4(), uuid4()]
    for subject in subjects:
        content_key(team.pk, subject, 2026, 3)
    forget_keys()
    meet = Barrier(2, timeout=5)
    orders = iter([subjects, subjects[::-1]])

    def seal_both() -> None:
        first, second = next(orders)
        with transaction.atomic():
            content_key(team.pk, first, 2026, 3)
            meet.wait()
            content_key(team.pk, second, 2026, 3)
            meet.wait()

    at_once(seal_both, count=2)

    assert ContentKey.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_key_of_a_rolled_back_transaction_is_not_remembered(team):
    subject = uuid4()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        lost = content_key(team.pk, subject, 2026, 3).id
        raise ZeroDivisionError

    found = content_key(team.pk, subject, 2026, 3).id

    assert found != lost
    forget_keys()
    assert content_key_by_id(team.pk, found).id == found


@pytest.mark.requirement("VAULT-5")
@pytest.mark.parametrize("change", [{"subject": uuid4()}, {"month": date(2026, 4, 1)}, {"number": 2}])
def test_content_key_moved_to_another_subject_month_or_number_is_unreadable(team, change):
    key = content_key(team.pk, uuid4(), 2026, 3)
    ContentKey.objects.filter(pk=key.id).update(**change)

    with pytest.raises(Unreadable):
        content_key_by_id(team.pk, key.id)


def test_content_key_of_another_team_is_not_found(team):
    key = content_key(team.pk, uuid4(), 2026, 3)

    with pytest.raises(Unreadable):
        content_key_by_id(make_team().pk, key.id)
