import threading
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import make_team, owner_of
from tests.vault.conftest import AT, VALUE, open_for, post, ready
from vault import actions
from vault.errors import CannotOpen, NotGranted, Revoked, Unreadable, WrongProcess
from vault.keys import forget_keys
from vault.models import TeamKey

pytestmark = pytest.mark.django_db


def granted(credential, *, scopes=None):
    """Give a new holder a new connection of the credential's team."""
    team = credential.team
    return actions.grant(team=team, holder=uuid4(), connection=uuid4(), scopes=scopes or {}, by=owner_of(team), at=AT)


def test_holder_of_a_live_grant_gets_the_secret(team):
    credential = ready(team)
    grant = granted(credential)

    secret = open_for(credential, holder=grant.holder, connection=grant.connection)

    assert secret.use() == VALUE


def test_holder_needs_a_grant_of_this_connection_in_this_team(team):
    credential, theirs = ready(team), ready(make_team())
    mine, their_grant = granted(credential), granted(theirs)

    for holder, connection_id in [
        (uuid4(), mine.connection),
        (mine.holder, uuid4()),
        (mine.holder, their_grant.connection),
        (their_grant.holder, their_grant.connection),
    ]:
        with pytest.raises(NotGranted):
            open_for(credential, holder=holder, connection=connection_id)


def test_revoked_grant_stops_its_holder_at_once(team):
    credential = ready(team)
    grant = granted(credential)
    open_for(credential, holder=grant.holder, connection=grant.connection)

    actions.revoke_grant(grant=grant, by=owner_of(team), at=AT)

    with pytest.raises(NotGranted):
        open_for(credential, holder=grant.holder, connection=grant.connection)


def test_scopes_of_the_grant_are_asked(team):
    credential = ready(team)
    grant = granted(credential, scopes={"tools": ["chat"]})
    place = {"holder": grant.holder, "connection": grant.connection}

    assert open_for(credential, **place, permits=lambda scopes: "chat" in scopes["tools"]).use() == VALUE
    with pytest.raises(NotGranted):
        open_for(credential, **place, permits=lambda scopes: "buy" in scopes["tools"])


@pytest.mark.requirement("TEN-5")
def test_credential_of_another_team_is_like_one_that_does_not_exist(team):
    theirs = ready(make_team())
    grant = granted(theirs)

    for holder in (None, grant.holder):
        with pytest.raises(NotGranted) as foreign:
            open_for(theirs, team=team, holder=holder, connection=grant.connection)
        theirs.pk, kept = uuid4(), theirs.pk
        with pytest.raises(NotGranted) as missing:
            open_for(theirs, team=team, holder=holder, connection=grant.connection)
        theirs.pk = kept
        assert str(foreign.value) == str(missing.value)


@pytest.mark.requirement("TEN-10")
@pytest.mark.parametrize("state", ["missing", "posted", "revoked"])
def test_missing_credential_never_falls_back_to_one_of_the_environment(team, monkeypatch, state):
    for name in ("OPENROUTER_API_KEY", "OPENROUTER_KEY", "OPENAI_API_KEY", "API_KEY"):
        monkeypatch.setenv(name, "sk-or-v1-from-the-environment")
    credential = post(team)
    if state == "missing":
        credential.pk = uuid4()
    if state == "revoked":
        actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    with pytest.raises(CannotOpen):
        open_for(credential)


def test_revoked_credential_says_so_to_who_was_granted_it(team):
    credential = ready(team)
    grant = granted(credential)
    actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    with pytest.raises(Revoked):
        open_for(credential, holder=grant.holder, connection=grant.connection)
    with pytest.raises(Revoked):
        open_for(credential)
    with pytest.raises(NotGranted):
        open_for(credential, holder=uuid4())


def test_credential_that_no_worker_adopted_is_unreadable(team):
    with pytest.raises(Unreadable):
        open_for(post(team))


def test_credential_is_unreadable_without_its_team_key(team):
    credential = ready(team)
    forget_keys()
    TeamKey.objects.filter(team=team, purpose="credential").update(wrapped=bytes(80))

    with pytest.raises(Unreadable):
        open_for(credential)


def test_web_process_opens_nothing_even_with_a_grant(team, web_process):
    credential = post(team)
    grant = granted(credential)

    with pytest.raises(WrongProcess):
        open_for(credential, holder=grant.holder, connection=grant.connection)


def test_content_key_file_does_not_unwrap_a_credentials_key(team, settings):
    """What the web process holds is no root for credentials, even when it is put in the root's place."""
    credential = ready(team)
    settings.VAULT_ROOT_KEY_FILE = settings.VAULT_CONTENT_KEY_FILE
    forget_keys()

    with pytest.raises(Unreadable):
        open_for(credential)


@pytest.mark.django_db(transaction=True)
def test_warm_process_checks_and_reads_in_one_statement(team):
    credential = ready(team)
    grant = granted(credential)
    place = {"holder": grant.holder, "connection": grant.connection}
    open_for(credential, **place)

    with CaptureQueriesContext(
        connection,
    ) as asked:
        open_for(credential, **place)

    assert len(asked) == 1
    for checked in ("revoked_at", "vault_grant", "ciphertext"):
        assert checked in asked[0]["sql"]


@pytest.mark.django_db(transaction=True)
def test_nothing_opens_once_a_revocation_has_committed(team):
    credential = ready(team)
    revoked, seen = threading.Event(), []

    def keep_opening() -> None:
        while True:
            after = revoked.is_set()
            try:
                open_for(credential)
            except Revoked:
                break
            seen.append(after)
        connection.close()

    opener = threading.Thread(target=keep_opening)
    opener.start()
    while len(seen) < 20:
        pass
    actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)
    revoked.set()
    opener.join(10)

    assert not opener.is_alive()
    assert True not in seen
