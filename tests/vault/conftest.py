"""Credentials in every state, and the two kinds of process."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from accounts.models import Team
from tests.factories import make_team, owner_of
from vault import actions
from vault.keys import forget_keys
from vault.models import Credential
from vault.opening import open_credential
from vault.secret import Secret

AT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
VALUE = "sk-or-v1-" + "0123456789abcdef" * 4


@pytest.fixture
def web_process(settings) -> None:
    """Be a process that was not given the root key, and that remembers nothing from before."""
    settings.VAULT_ROOT_KEY_FILE = ""
    forget_keys()


@pytest.fixture
def team(db) -> Team:
    return make_team()


def post(team: Team, *, label: str = "Main", posted: str = VALUE) -> Credential:
    """Post a key as its team's owner."""
    return actions.post_credential(team=team, label=label, kind="api_key", posted=posted, by=owner_of(team), at=AT)


def ready(team: Team, *, label: str = "Main", posted: str = VALUE) -> Credential:
    """Post a key and adopt it."""
    credential = post(team, label=label, posted=posted)
    actions.adopt_credential(credential=credential)
    return credential


def open_for(
    credential: Credential,
    *,
    team: Team | None = None,
    holder: UUID | None = None,
    connection: UUID | None = None,
    permits: Callable[[dict], bool] | None = None,
) -> Secret:
    """Open a credential, for its own team and without a holder unless said otherwise."""
    return open_credential(
        team_id=team.pk if team else credential.team_id,
        credential_id=credential.pk,
        holder=holder,
        connection_id=connection or uuid4(),
        permits=permits,
    )
