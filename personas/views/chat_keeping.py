"""Who may read a chat, and for how long it is kept: sharing it with the team, ending a temporary one."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas.chat import sharing, temporary


@require_POST
@team_view(Permission.CHAT_USE)
def chat_share(request: HttpRequest, chat_id: UUID) -> HttpResponse:
    return _change(request, chat_id, sharing.share, "The team can read this chat now")


@require_POST
@team_view(Permission.CHAT_USE)
def chat_unshare(request: HttpRequest, chat_id: UUID) -> HttpResponse:
    return _change(request, chat_id, sharing.unshare, "Nobody else can read this chat any more")


@require_POST
@team_view(Permission.CHAT_USE)
def chat_end(request: HttpRequest, chat_id: UUID) -> HttpResponse:
    """End a temporary chat of one's own."""
    chat = get_object_or_404(request.team.chats.filter(user=request.user).select_related("team"), pk=chat_id)
    try:
        temporary.end(chat=chat, by=request.user)
    except temporary.NotTemporary:
        raise Http404 from None
    messages.success(request, "Temporary chat ended; what was said is destroyed")
    return redirect("chat_list", request.team.slug)


def _change(request: HttpRequest, chat_id: UUID, change: Callable[..., None], words: str) -> HttpResponse:
    chat = get_object_or_404(request.team.chats.filter(user=request.user), pk=chat_id)
    try:
        change(chat=chat, by=request.user)
    except sharing.CannotShare as error:
        messages.error(request, str(error))
    else:
        messages.success(request, words)
    return redirect("chat_room", request.team.slug, chat.pk)
