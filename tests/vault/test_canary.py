"""After posting, adopting, using and revoking: no column of any table holds the value or a piece of it."""

import base64
import json
import secrets
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import connection, models

from audit.actions import store
from tests.factories import owner_of
from tests.vault.conftest import AT, open_for, post, ready
from vault import actions
from vault.content import seal_content

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("VAULT-1")]
PIECE = 9  # characters of a secret that may never be found together


def every_row() -> list[tuple[str, str]]:
    """Return every row of every table as text (bytes as hex), with the table's name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = []
        for table in tables:
            cursor.execute(f'SELECT whole::text FROM "{table}" whole')
            rows += [(table, text) for (text,) in cursor.fetchall()]
    return rows


def spellings(hidden: str) -> set[str]:
    """Return every piece of a value in each form in which it could lie in a row."""
    pieces = {hidden[start : start + PIECE] for start in range(len(hidden) - PIECE + 1)}
    pieces |= {piece[::-1] for piece in pieces}
    found = pieces | {piece.encode().hex() for piece in pieces} | {json.dumps(hidden)[1:-1]}
    for offset in range(3):
        found.add(base64.b64encode(b"x" * offset + hidden.encode())[4:-4].decode())
    return found


def tables_that_hold(hidden: str) -> set[str]:
    wanted = spellings(hidden)
    return {table for table, text in every_row() if any(piece in text for piece in wanted)}


def test_search_finds_a_planted_value(team):
    """The search itself is right: it finds what is put there in clear or as bytes."""
    hidden = secrets.token_hex(32)
    team.name = f"Team {hidden[10:40]}"
    team.save(update_fields=["name"])
    post(team).versions.update(posted_sealed=b"plain" + hidden.encode())

    assert tables_that_hold(hidden) == {"accounts_team", "vault_credentialversion"}


@pytest.mark.parametrize("stage", ["posted", "adopted", "used", "revoked"])
def test_no_column_holds_a_posted_key(team, stage):
    hidden = secrets.token_hex(32)
    credential = post(team, posted=f"sk-or-v1-{hidden}")
    if stage != "posted":
        actions.adopt_credential(credential=credential)
    if stage == "used":
        assert open_for(credential).use().endswith(hidden)
    if stage == "revoked":
        actions.revoke_credential(credential=credential, by=owner_of(team), at=AT)

    assert {table for table, _text in every_row()} >= {"vault_credential", "vault_credentialversion", "accounts_team"}
    assert tables_that_hold(hidden) == set()


def test_no_column_holds_sealed_content(team):
    hidden = secrets.token_hex(32)

    store(seal_content(team_id=team.pk, subject=uuid4(), kind="prompt", data=hidden.encode(), at=AT))

    assert tables_that_hold(hidden) == set()


def test_every_secret_column_holds_the_written_format(team):
    ready(team)
    post(team, label="posted")
    store(seal_content(team_id=team.pk, subject=uuid4(), kind="prompt", data=b"said", at=AT))
    first_bytes = {
        "posted_sealed": b"DP\x01",
        "wrapped": b"DV\x01\x01",
        "data_key_wrapped": b"DV\x01\x01",
        "ciphertext": b"DV\x01\x01",
    }

    seen = set()
    for model in [*apps.get_app_config("vault").get_models(), apps.get_model("audit.Content")]:
        names = [field.name for field in model._meta.fields if isinstance(field, models.BinaryField)]
        for row in model.objects.values(*names) if names else []:
            for name, value in row.items():
                if value is not None and name in first_bytes:
                    assert bytes(value).startswith(first_bytes[name]), (model, name)
                    seen.add((model.__name__, name))

    assert seen == {
        ("TeamKey", "wrapped"),
        ("ContentKey", "wrapped"),
        ("CredentialVersion", "posted_sealed"),
        ("CredentialVersion", "data_key_wrapped"),
        ("CredentialVersion", "ciphertext"),
        ("Content", "ciphertext"),
    }
