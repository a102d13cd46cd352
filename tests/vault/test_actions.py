from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from audit.models import Event
from tests.factories import make_team, owner_of
from tests.vault.conftest import AT, VALUE, open_for, post, ready
from vault import actions
from vault.errors import Revoked, Unreadable, WrongProcess
from vault.models import Credential, CredentialVersion, Grant

pytestmark = pytest.mark.django_db


def actions_of(team) -> list[str]:
    return list(Event.objects.filter(team_id=team.pk).order_by("id").values_list("action", flat=True))


# --- posting ------------------------------------------------------------------------------------


@pytest.mark.requirement("VAULT-10")
def test_posted_key_is_sealed_in_the_same_request_and_never_readable_there(team, web_process):
    credential = post(team)

    version = credential.versions.get()
    assert (credential.state, version.state) == ("posted", "posted")
    assert bytes(version.posted_sealed).startswith(b"DP\x01")
    assert (version.ciphertext, version.data_key_wrapped, credential.fingerprint) == (None, None, "")
    for read in (actions.adopt_credential, open_for):
        with pytest.raises(WrongProcess):
            read(credential=credential)
    assert actions_of(team) == ["vault.credential.posted"]


def test_posted_key_shows_its_beginning_and_its_last_four(team):
    credential = post(team, posted=f"  {VALUE}\n")

    assert (credential.prefix, credential.last_four) == (VALUE[:12], VALUE[-4:])


def test_short_key_shows_less_of_itself(team):
    credential = post(team, posted="short-key-16-abc")

    assert (credential.prefix, credential.last_four) == ("sh", "-abc")


@pytest.mark.parametrize(
    ("posted", "message"),
    [
        ("", "the field is empty"),
        (" \n\t ", "the field is empty"),
        ("sk-or-v1-\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022", "Paste the key alone"),
        ("Bearer sk-or-v1-0123456789", "Paste the key alone"),
        ("sk-or-v1-0123456789\r\nX-Evil: 1", "Paste the key alone"),
        ("sk-or-v1-\x00123456789", "Paste the key alone"),
        ("sk-or-v1-\u212a0123456789", "Paste the key alone"),
        ("sk-or-v1-short", "this has 14 characters, a key has 16 or more"),
        ("k" * 513, "this has 513 characters, a key has at most 512"),
    ],
)
def test_unfit_key_is_refused_with_what_to_do_and_without_the_value(team, posted, message):
    with pytest.raises(actions.PostedSecretRefused, match=message) as refusal:
        post(team, posted=posted)

    assert not posted.strip() or posted.strip() not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert (Credential.objects.count(), actions_of(team)) == (0, [])


@pytest.mark.parametrize("length", [16, 512])
def test_keys_of_the_shortest_and_the_longest_length_are_kept(team, length):
    credential = ready(team, posted="k" * length)

    assert open_for(credential).use() == "k" * length


def test_label_is_unique_among_the_live_credentials_of_a_team(team):
    first = post(team)

    with pytest.raises(actions.LabelTaken):
        post(team)
    post(make_team())
    actions.revoke_credential(credential=first, by=owner_of(team), at=AT)
    post(team)

    assert team.credentials.count() == 2


# --- adopting -----------------------------------------------------------------------------------


def test_adopted_key_opens_and_what_was_posted_is_gone(team):
    credential = ready(team)

    version = credential.versions.get()
    assert (credential.state, version.state, version.posted_sealed) == ("ready", "active", None)
    assert open_for(credential).use() == VALUE
    assert actions_of(team) == ["vault.credential.posted", "vault.credential.adopted"]


def test_adopting_twice_changes_nothing(team):
    credential = ready(team)
    before = credential.versions.values().get()

    actions.adopt_credential(credential=credential)

    assert credential.versions.values().get() == before
    assert actions_of(team) == ["vault.credential.posted", "vault.credential.adopted"]


def test_fingerprint_recognises_a_key_inside_its_team_only(team):
    first, again = ready(team), ready(team, label="Again")
    other, elsewhere = ready(team, label="Other", posted=VALUE[:-1] + "0"), ready(make_team())

    assert len(first.fingerprint) == 64
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other.fingerprint, elsewhere.fingerprint}) == 3


def test_unreadable_post_is_said_and_kept(team):
    credential = post(team)
    stranger = post(make_team())
    blob = stranger.versions.get().posted_sealed
    CredentialVersion.objects.filter(credential=credential).update(posted_sealed=blob)

    with pytest.raises(Unreadable):
        actions.adopt_credential(credential=credential)

    assert credential.state == "unreadable"
    assert actions_of(team)[-1] == "vault.credential.unreadable"


def test_revoked_post_is_not_adopted(team):
    credential = post(team)
    actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    with pytest.raises(Revoked):
        actions.adopt_credential(credential=credential)

    assert credential.versions.get().state == "retired"


# --- revoking -----------------------------------------------------------------------------------


def test_revoked_credential_is_destroyed_even_where_no_root_key_is(team, web_process):
    credential = post(team)

    actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    credential.refresh_from_db()
    version = credential.versions.get()
    assert (credential.state, credential.is_live, credential.revoked_by) == ("revoked", False, owner_of(team))
    assert (version.posted_sealed, version.ciphertext, version.data_key_wrapped, version.data_key_check) == (None,) * 4
    assert actions_of(team)[-1] == "vault.credential.revoked"


def test_second_revocation_is_refused_and_leaves_no_trace(team):
    credential = ready(team)
    actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    with pytest.raises(actions.AlreadyRevoked):
        actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    assert actions_of(team).count("vault.credential.revoked") == 1


@pytest.mark.django_db(transaction=True)
def test_one_of_many_revocations_at_once_wins(team):
    credential, owner, start = ready(team), owner_of(team), Barrier(6)

    def revoke(_number: int) -> str:
        start.wait()
        try:
            actions.revoke_credential(credential=credential, by=owner, at=AT)
        except actions.AlreadyRevoked:
            return "already"
        finally:
            connection.close()
        return "revoked"

    with ThreadPoolExecutor(6) as threads:
        outcomes = sorted(threads.map(revoke, range(6)))

    assert outcomes == ["already"] * 5 + ["revoked"]
    assert actions_of(team).count("vault.credential.revoked") == 1


# --- grants -------------------------------------------------------------------------------------


def make_grant(team, *, holder, connection, scopes) -> Grant:
    return actions.grant(team=team, holder=holder, connection=connection, scopes=scopes, by=owner_of(team), at=AT)


def test_granting_again_changes_the_scopes_of_the_one_live_grant(team):
    place = {"holder": uuid4(), "connection": uuid4()}

    first = make_grant(team, **place, scopes={"tools": ["a"]})
    second = make_grant(team, **place, scopes={"tools": ["b"]})

    assert first.pk == second.pk
    assert team.grants.live().get().scopes == {"tools": ["b"]}
    assert actions_of(team) == ["vault.grant.made", "vault.grant.changed"]


def test_grant_after_a_revocation_is_a_new_one(team):
    place = {"holder": uuid4(), "connection": uuid4()}
    first = make_grant(team, **place, scopes={})
    actions.revoke_grant(grant=first, by=owner_of(team), at=AT)

    second = make_grant(team, **place, scopes={})

    assert second.pk != first.pk
    assert team.grants.live().get() == second
    with pytest.raises(actions.AlreadyRevoked):
        actions.revoke_grant(grant=first, by=owner_of(team), at=AT)
    assert actions_of(team) == ["vault.grant.made", "vault.grant.revoked", "vault.grant.made"]


@pytest.mark.django_db(transaction=True)
def test_granting_at_once_from_many_pages_makes_one_grant(team):
    place, start = {"holder": uuid4(), "connection": uuid4()}, Barrier(6)

    def give(number: int) -> None:
        start.wait()
        make_grant(team, **place, scopes={"number": number})
        connection.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(give, range(6)))

    assert team.grants.count() == 1
    assert sorted(actions_of(team)) == ["vault.grant.changed"] * 5 + ["vault.grant.made"]


# --- what the tables refuse ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"state": "revoked"},
        {"revoked_at": AT},
        {"state": "revoked", "revoked_at": AT},
    ],
)
def test_credential_cannot_be_half_revoked(team, change):
    credential = ready(team)

    with pytest.raises(IntegrityError), transaction.atomic():
        Credential.objects.filter(pk=credential.pk).update(**change)


@pytest.mark.parametrize(
    "change", [{"ciphertext": None}, {"state": "retired"}, {"posted_sealed": b"x"}, {"data_key_id": None}]
)
def test_version_holds_what_its_state_says(team, change):
    credential = ready(team)

    with pytest.raises(IntegrityError), transaction.atomic():
        credential.versions.update(**change)


def test_version_cannot_move_to_a_credential_or_key_of_another_team(team):
    credential, theirs = ready(team), ready(make_team())
    key_of_theirs = theirs.versions.get().team_key_id

    for change in ({"credential_id": theirs.pk}, {"team_key_id": key_of_theirs}):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            credential.versions.update(**change)
