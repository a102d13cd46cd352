"""The move test: what is sealed in one place opens in no other, by any key that could be found for it."""

import random
from itertools import permutations, product
from uuid import UUID, uuid4

import pytest

from audit.actions import store
from tests.factories import make_team
from tests.vault.conftest import AT, open_for, ready
from vault.box import Key, bind, check_value, new_key
from vault.content import _facts, open_content, seal_content
from vault.errors import CannotOpen, Unreadable
from vault.keys import Purpose, facts_of_key, forget_keys, team_key
from vault.models import CredentialVersion
from vault.versions import Place, SealedVersion, open_version, seal_version

pytestmark = pytest.mark.requirement("VAULT-5")
KEY = Key(UUID(int=1), new_key())
TEAMS, ROWS, VERSIONS = [uuid4() for _ in range(3)], [uuid4() for _ in range(3)], (1, 2, 11, 12)


def facts_everywhere() -> dict[tuple, bytes]:
    """Return every place of a small world: (team, field, row, version) and what binds to it."""
    world = {}
    for team, row, number in product(TEAMS, ROWS, VERSIONS):
        world[team, "version", row, number] = Place(team, ROWS[0], row, number).facts()
        world[team, "version of another credential", row, number] = Place(team, ROWS[1], row, number).facts()
        world[team, "data key", row, number] = Place(team, ROWS[0], row, number).facts_of_key(ROWS[0])
        world[team, "another data key", row, number] = Place(team, ROWS[0], row, number).facts_of_key(ROWS[1])
        for purpose in Purpose:
            world[team, f"team key: {purpose}", row, number] = facts_of_key(team, purpose, row, number)
    for team, row, kind in product(TEAMS, ROWS, ("prompt", "response", "1")):
        world[team, "content", row, kind] = _facts(team, row, kind)
    return world


def test_no_two_places_bind_to_the_same_facts():
    world = facts_everywhere()

    assert len(set(world.values())) == len(world)


def test_5000_random_moves_under_one_key_all_fail():
    """One key for all places is the attacker's best case: only what is bound can tell them apart."""
    world = list(facts_everywhere().values())
    blobs = [KEY.seal(b"a value", facts) for facts in world]
    chance = random.Random(5000)

    opened = 0
    for _ in range(5000):
        source, target = chance.sample(range(len(world)), 2)
        try:
            KEY.open(blobs[source], world[target])
            opened += 1
        except Unreadable:
            pass

    assert opened == 0
    assert [KEY.open(blob, facts) for blob, facts in zip(blobs, world, strict=True)] == [b"a value"] * len(world)


def test_every_single_column_of_a_version_that_is_moved_fails():
    """Two versions in the same team under the same team key: each column alone, and any two, from the other row."""
    places = [Place(TEAMS[0], ROWS[0], row, number) for row, number in product(ROWS[:2], (1, 2))]
    sealed = [seal_version(f"value {index}", place=place, team_key=KEY) for index, place in enumerate(places)]
    columns = ("data_key_id", "data_key_wrapped", "data_key_check", "ciphertext")

    for (place, mine), (_, theirs) in permutations(zip(places, sealed, strict=True), 2):
        for taken in product((False, True), repeat=len(columns)):
            if not any(taken):
                continue
            mixed = SealedVersion(
                **{name: getattr(theirs if take else mine, name) for name, take in zip(columns, taken, strict=True)}
            )
            with pytest.raises(Unreadable):
                open_version(mixed, place=place, team_key=KEY)


def test_another_key_under_the_same_id_fails_by_its_check_value():
    """GCM does not commit to its key; the check value does."""
    place, id, raw = Place(TEAMS[0], ROWS[0], ROWS[1], 1), uuid4(), new_key()
    genuine = seal_version("value", place=place, team_key=KEY)
    forged = SealedVersion(
        data_key_id=id,
        data_key_wrapped=KEY.seal(raw, place.facts_of_key(id)),
        data_key_check=genuine.data_key_check,
        ciphertext=Key(id, raw).seal(b"forged", place.facts()),
    )

    with pytest.raises(Unreadable):
        open_version(forged, place=place, team_key=KEY)
    assert check_value(raw) != genuine.data_key_check


@pytest.mark.django_db
def test_versions_swapped_between_real_rows_do_not_open():
    """Two teams, two credentials each: every pair of rows exchanges all its sealed columns."""
    credentials = [
        ready(team, label=label, posted=f"sk-or-v1-{label}-of-{team.slug}")
        for team, label in product((make_team(), make_team()), ("first", "second"))
    ]
    columns = ("team_key_id", "data_key_id", "data_key_wrapped", "data_key_check", "ciphertext")
    own = {credential.pk: credential.versions.values(*columns).get() for credential in credentials}

    for target, source in permutations(credentials, 2):
        moved = own[source.pk] | (
            {} if target.team_id == source.team_id else {"team_key_id": own[target.pk]["team_key_id"]}
        )
        CredentialVersion.objects.filter(credential=target).update(**moved)
        with pytest.raises(CannotOpen):
            open_for(target)
        CredentialVersion.objects.filter(credential=target).update(**own[target.pk])
        assert open_for(target).use().startswith("sk-or-v1-")


@pytest.mark.django_db
def test_version_moved_to_another_credential_of_its_team_does_not_open(team):
    first, second = ready(team, label="first"), ready(team, label="second")
    second.versions.all().delete()
    first.versions.update(credential=second)

    with pytest.raises(Unreadable):
        open_for(second)


@pytest.mark.django_db
def test_content_swapped_between_rows_teams_subjects_and_kinds_does_not_open():
    subjects = [uuid4(), uuid4()]
    rows = [
        store(seal_content(team_id=team.pk, subject=subject, kind=kind, data=b"said", at=AT))
        for team, subject, kind in product((make_team(), make_team()), subjects, ("prompt", "response"))
    ]
    blobs = {row.pk: bytes(row.ciphertext) for row in rows}

    for target, source in permutations(rows, 2):
        target.ciphertext = blobs[source.pk]
        with pytest.raises(Unreadable):
            open_content(content=target)
        target.ciphertext = blobs[target.pk]
    assert [open_content(content=row) for row in rows] == [b"said"] * 8


@pytest.mark.django_db
def test_content_and_credentials_do_not_open_each_other(team):
    credential = ready(team)
    content = store(seal_content(team_id=team.pk, subject=uuid4(), kind="prompt", data=b"said", at=AT))
    version = credential.versions.get()
    forget_keys()

    content.ciphertext, taken = version.ciphertext, content.ciphertext
    with pytest.raises(Unreadable):
        open_content(content=content)
    credential.versions.update(ciphertext=taken)
    with pytest.raises(Unreadable):
        open_for(credential)
    assert team_key(team.pk, Purpose.CREDENTIAL).id != team_key(team.pk, Purpose.CONTENT).id
    assert bind(b"a", b"b") != bind(b"ab")
