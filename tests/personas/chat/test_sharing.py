"""Sharing a chat inside the team: its member decides, the others read and never write."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from personas.chat import keeping, sharing, temporary
from personas.models import Chat
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.personas.chat.builders import make_chat, make_turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def chat(team) -> Chat:
    chat = make_chat(team, title="Secret plan")
    make_turn(chat, "What do you think?")
    return chat


def ask(user, method: str, name: str, *args: object) -> int:
    client = Client()
    client.force_login(user)
    return getattr(client, method)(reverse(name, args=args)).status_code


def is_shared(chat: Chat) -> bool:
    chat.refresh_from_db()
    return chat.shared_at is not None


def test_nobody_shares_what_is_not_theirs_or_not_kept(team, chat):
    other = make_member(team, Role.OWNER)

    for wrong in (lambda: sharing.share(chat=chat, by=other), lambda: sharing.unshare(chat=chat, by=other)):
        with pytest.raises(sharing.CannotShare, match="Only the member"):
            wrong()
    with pytest.raises(sharing.CannotShare, match="temporary"):
        sharing.share(chat=make_chat(team, temporary=True), by=owner_of(team))

    assert ask(other, "post", "chat_share", team.slug, chat.pk) == 404
    assert ask(make_stranger(), "post", "chat_share", team.slug, chat.pk) == 404
    assert not is_shared(chat)


def test_a_shared_chat_is_read_by_the_team_and_written_by_nobody_else(team, chat):
    other, auditor = make_member(team), make_member(team, Role.AUDITOR)
    assert ask(other, "get", "chat_room", team.slug, chat.pk) == 404

    assert ask(chat.user, "post", "chat_share", team.slug, chat.pk) == 302

    assert ask(other, "get", "chat_room", team.slug, chat.pk) == 200
    assert ask(auditor, "get", "chat_room", team.slug, chat.pk) == 200
    assert ask(make_stranger(), "get", "chat_room", team.slug, chat.pk) == 404
    assert ask(other, "post", "chat_send", team.slug, chat.pk) != 200
    assert chat.messages.count() == 2
    assert ask(chat.user, "post", "chat_unshare", team.slug, chat.pk) == 302
    assert ask(other, "get", "chat_room", team.slug, chat.pk) == 404


def test_sharing_is_in_the_log_once_without_the_title(team, chat):
    for change in (sharing.share, sharing.share, sharing.unshare, sharing.unshare):
        change(chat=chat, by=chat.user)

    events = Event.objects.filter(target=f"chat:{chat.pk}").order_by("at", "id")
    assert [event.action for event in events] == ["personas.chat.shared", "personas.chat.unshared"]
    assert not any("Secret plan" in bytes(event.canon).decode() for event in events)


def test_every_event_of_a_chat_names_its_persona(team):
    kept, passing = make_chat(team), make_chat(team, temporary=True)
    sharing.share(chat=kept, by=kept.user)
    keeping.rename(chat=kept, title="Secret plan", by=kept.user)
    keeping.archive(chat=kept, by=kept.user)
    keeping.bring_back(chat=kept, by=kept.user)
    temporary.end(chat=passing, by=passing.user)

    for chat, number in ((kept, 4), (passing, 2)):
        events = Event.objects.filter(target=f"chat:{chat.pk}", persona_id=chat.persona_id)
        assert [event.persona_name for event in events] == [chat.persona.name] * number
