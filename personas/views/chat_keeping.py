"""Who may read a chat, and for how long it is kept: sharing it with the team, ending a temporary one."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas.chat import sharing, temporary
from personas.models import Chat
from personas.views.chats import of_own_chat


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_share(request: HttpRequest, chat: Chat) -> HttpResponse:
    return _change(request, chat, sharing.share, "The team can read this chat now")


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_unshare(request: HttpRequest, chat: Chat) -> HttpResponse:
    return _change(request, chat, sharing.unshare, "Nobody else can read this chat any more")


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_end(request: HttpRequest, chat: Chat) -> HttpResponse:
    try:
        temporary.end(chat=chat, by=request.user)
    except temporary.NotTemporary:
        messages.error(request, "This chat is kept. Archive it if you are done with it.")
        return redirect("chat_room", request.team.slug, chat.pk)
    messages.success(request, "Temporary chat ended; what was said is destroyed")
    return redirect("chat_list", request.team.slug)


def _change(request: HttpRequest, chat: Chat, change: Callable[..., None], words: str) -> HttpResponse:
    try:
        change(chat=chat, by=request.user)
    except sharing.CannotShare as error:
        messages.error(request, str(error))
    else:
        messages.success(request, words)
    return redirect("chat_room", request.team.slug, chat.pk)
