"""Temporary chats: what was said in one is destroyed when its member ends it, or an hour after the last message."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Func, Q
from django.db.models.functions import Coalesce

from accounts.models import User
from audit.actions import Actor
from audit.clock import AppNow, app_now
from integrations.models import Approval
from integrations.sweeping import one_by_one
from personas.actions import stop_run
from personas.chat import titles
from personas.chat.telling import tell
from personas.models import Attachment, Chat, Message, Run, StageRun
from personas.stopping import AlreadyOver
from vault.content import erase_contents, erase_subject

KEPT_FOR = timedelta(hours=1)  # after the last message
AT_ONCE = 100  # chats that one sweep takes


class NotTemporary(Exception):
    """This chat is kept; only temporary ones are ended."""


def end(*, chat: Chat, by: User) -> None:
    """
    End a temporary chat: nothing can be said in it any more, and what was said is destroyed.

    An answer under way is stopped, and the rest follows within a minute of its end. Raises NotTemporary.
    """
    if not chat.temporary:
        raise NotTemporary
    with transaction.atomic():
        now = app_now()
        if Chat.objects.live().filter(pk=chat.pk).update(archived_at=now):
            tell("ended", chat, Actor.user(by))
    _stop(chat, by)
    forget(chat_id=chat.pk, actor=Actor.user(by))


def forget_due() -> None:
    """Destroy what was said in temporary chats that are over."""
    said = Message.objects.filter(content_id__isnull=False).values("chat_id")
    due = Chat.objects.filter(_over(), temporary=True, pk__in=said).select_related("user", "team")
    one_by_one(due.order_by("active_at")[:AT_ONCE], _forget)


def _over() -> Q:
    return Q(archived_at__isnull=False) | Q(active_at__lt=AppNow() - KEPT_FOR)


def _forget(chat: Chat) -> None:
    # From here on nothing can be said in it; whoever said something a moment ago keeps it going.
    if not Chat.objects.filter(_over(), pk=chat.pk).update(archived_at=Coalesce("archived_at", AppNow())):
        return
    _stop(chat, chat.user)
    forget(chat_id=chat.pk, actor=Actor.system("worker"))


@transaction.atomic
def forget(*, chat_id: UUID, actor: Actor) -> bool:
    """
    Destroy what was said in a temporary chat, for good; return False while an answer is under way.

    The rows stay, as the log does: when it took place, who talked with which persona, which tools and
    models were called, what became of each call, and its figures.
    """
    # Locked as sending does, so that nothing is said meanwhile.
    chat = Chat.objects.select_for_update(no_key=True).get(pk=chat_id, temporary=True)
    if chat.runs.filter(state__in=Run.UNFINISHED).exists():
        return False
    attachments = Attachment.objects.filter(message__chat=chat)
    files = set(attachments.values_list("content_id", flat=True))
    erase_subject(team_id=chat.team_id, subject=chat.pk, content_ids=set(_contents_of(chat)))
    erase_contents(team_id=chat.team_id, content_ids=files)
    attachments.delete()  # their names say something too
    _blank(chat)
    messages = chat.messages.filter(content_id__isnull=False).update(content_id=None)
    ended_at = Coalesce("archived_at", AppNow())
    Chat.objects.filter(pk=chat.pk).update(archived_at=ended_at, title=titles.OF_TEMPORARY)
    tell("forgotten", chat, actor, messages=messages)
    return True


def _blank(chat: Chat) -> None:
    """Empty what stands open in the rows of its turns and may repeat what was said: failures and names."""
    chat.runs.exclude(failure="").update(failure="")
    stages = StageRun.objects.filter(run__chat=chat)
    stages.update(partial=None, partial_id=None, failure="")
    called = stages.filter(kind="tool")
    called.filter(spec__tool="").update(name="unknown_tool")
    called.update(spec=Func(F("spec"), template="%(expressions)s - 'name' - 'call'"))


def _contents_of(chat: Chat) -> Iterable[UUID]:
    """The ids of everything sealed that was said, done or asked in a chat, but its files."""
    yield from chat.messages.filter(content_id__isnull=False).values_list("content_id", flat=True)
    stages = StageRun.objects.filter(run__chat=chat).values_list("input_content_id", "output_content_id")
    yield from (id for pair in stages for id in pair if id)
    runs = chat.runs.values_list("pk", flat=True)
    asked = Approval.objects.filter(team_id=chat.team_id, run_id__in=list(runs))
    yield from asked.values_list("arguments_content_id", flat=True)


def _stop(chat: Chat, by: User) -> None:
    for run in chat.runs.filter(state__in=Run.UNFINISHED, stop_wanted_at=None):
        try:
            stop_run(run=run, by=by)
        except AlreadyOver:
            continue
