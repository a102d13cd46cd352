"""Chats: the list, a new one, the room, and what a member does in it."""

from functools import wraps
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import View, team_view
from definable.fragments import render_fragment, toast, wants_fragment
from definable.limits import takes_files, takes_long_texts
from personas.chat import expecting, keeping, reading, sending
from personas.chat import search as searching
from personas.chat.shown import Figures, Path, Shown
from personas.chat_forms import (
    MessageForm,
    NewChatForm,
    RenameForm,
    as_uuid,
    personas_to_talk_to,
)
from personas.models import Chat, Message, PersonaVersion
from personas.stopping import AlreadyOver
from personas.views.once import sending_key

WHICH = {"mine": "Yours", "shared": "Shared with the team", "archived": "Archived"}


def of_own_chat(view: View) -> View:
    """Give the view its chat, and turn away whoever only reads it."""

    @wraps(view)
    def checked(request: HttpRequest, chat_id: UUID, **ids: UUID) -> HttpResponse:
        chat = _chat_or_404(request, chat_id)
        if chat.user_id != request.user.pk:
            messages.error(request, "This chat is somebody else's. Start one of your own to go on from it.")
            return redirect("chat_room", request.team.slug, chat.pk)
        return view(request, chat, **ids)

    return checked


# --- lists ------------------------------------------------------------------------------


@require_GET
@team_view(Permission.CHAT_VIEW)
def chat_list(request: HttpRequest) -> HttpResponse:
    which = request.GET.get("which", "mine")
    which = which if which in WHICH else "mine"
    search = request.GET.get("q", "")[:120].strip()
    after = as_uuid(request.GET.get("after", ""))
    context = {
        "page": reading.chat_page(team=request.team, user=request.user, which=which, search=search, after=after),
        "which": which,
        "tabs": WHICH.items(),
        "search": search,
        "found": _found(request, search) if which == "mine" else None,
        "may_use": request.membership.allows(Permission.CHAT_USE),
    }
    return render_fragment(request, "personas/chat/chat_list.html", "personas/chat/_chats.html", context)


def _found(request: HttpRequest, words: str) -> searching.Found | None:
    """What was said in one's own chats, from the newest message or from where the last page came to."""
    if not words:
        return None
    before = as_uuid(request.GET.get("said", ""))
    return searching.find(team=request.team, user=request.user, words=words, before=before)


@takes_files
@require_http_methods(["GET", "POST"])
@team_view(Permission.CHAT_USE)
def chat_create(request: HttpRequest) -> HttpResponse:
    """Choose a persona, then say the first thing to it."""
    personas = personas_to_talk_to(request.team)
    wanted = request.GET.get("persona", "")
    persona = next((each for each in personas if each.slug == wanted), personas[0] if len(personas) == 1 else None)
    if persona is None:
        may_edit = request.membership.allows(Permission.PERSONA_EDIT)
        return render(request, "personas/chat/persona_choice.html", {"personas": personas, "may_edit": may_edit})
    form = _form(request, NewChatForm, persona.version)
    if form.is_valid():
        data = form.cleaned_data
        said = {"text": data["text"], "models": data["models"], "uploads": form.uploads}
        try:
            message = sending.start_chat(
                team=request.team,
                persona=persona,
                by=request.user,
                temporary=data["temporary"],
                idempotency_key=_key(request, persona.pk, data["text"], data["models"], form.marks),
                **said,
            )
            return _to_room(request, message.chat_id)
        except sending.CannotSend as error:
            form.add_error(None, str(error))
    context = {"persona": persona, "personas": personas, "form": form, "once": uuid4().hex}
    context |= _estimates(request, persona.version)
    return render(request, "personas/chat/chat_new.html", context, status=422 if form.errors else 200)


# --- the room ---------------------------------------------------------------------------


@require_GET
@team_view(Permission.CHAT_VIEW)
def chat_room(request: HttpRequest, chat_id: UUID) -> HttpResponse:
    return _room(request, _chat_or_404(request, chat_id))


@require_GET
@team_view(Permission.CHAT_VIEW)
def chat_answer(request: HttpRequest, chat_id: UUID, message_id: UUID) -> HttpResponse:
    """One answer alone; 304 while the page shows it as it is."""
    chat = _chat_or_404(request, chat_id)
    answer = _answer_or_404(request, chat, message_id)
    if request.headers.get("HX-PTag") == answer.version:
        return HttpResponseNotModified()
    context = answer_context(request, chat) | {"answer": answer}
    response = render_fragment(request, "personas/chat/answer.html", "personas/chat/_answer.html", context)
    response["HX-PTag"] = answer.version
    return response


@require_GET
@team_view(Permission.CHAT_VIEW)
def chat_step(request: HttpRequest, chat_id: UUID, stage_id: UUID) -> HttpResponse:
    """What one tool call asked and was given, with its attempts."""
    chat = _chat_or_404(request, chat_id)
    try:
        step = reading.step_view(chat=chat, stage_id=stage_id)
    except Message.DoesNotExist as error:
        raise Http404 from error
    return render_fragment(request, "personas/chat/step.html", "personas/chat/_step.html", {"chat": chat, "step": step})


def answer_context(request: HttpRequest, chat: Chat) -> dict[str, Any]:
    """What the template of one answer needs beside `answer`."""
    membership = request.membership
    return {
        "chat": chat,
        "team": request.team,
        "may_write": _may_write(request, chat),
        "may_audit": membership.allows(Permission.AUDIT_VIEW),
        "streams": settings.STREAMING,
        "once": uuid4().hex,
        "who": {"user_id": request.user.pk, "role": membership.role},
    }


def _room(request: HttpRequest, chat: Chat, form: MessageForm | None = None, status: int = 200) -> HttpResponse:
    before = as_uuid(request.GET.get("before", ""))
    at = as_uuid(request.GET.get("at", ""))  # a branch that is cut off here, to go on from
    place = at or as_uuid(request.GET.get("m", ""))
    path = reading.path_of(chat, place, before, ends=at is not None)
    version = chat.persona.version
    context = (
        answer_context(request, chat)
        | {
            "path": path,
            "before": before,
            "place": place,
            "is_mine": chat.user_id == request.user.pk,
            "persona": chat.persona,
            "editing": as_uuid(request.GET.get("edit", "")),
            "renaming": "rename" in request.GET,
            "form": form or MessageForm(team=request.team, by=request.user, version=version),
        }
        | _estimates(request, version, _last_figures(path))
    )
    response = render_fragment(request, "personas/chat/room.html", "personas/chat/_messages.html", context)
    response.status_code = status
    return response


def _estimates(request: HttpRequest, version: PersonaVersion | None, before: Figures | None = None) -> dict[str, Any]:
    """What a message takes that one model answers, and that two do."""
    if version is None:
        return {}
    one = expecting.of_message(team=request.team, version=version, before=before)
    return {"estimate": one, "estimate_of_two": expecting.of_two(one)}


def _last_figures(path: Path) -> Any:
    return next((shown.figures for shown in reversed(path.messages) if shown.is_answer), None)


# --- saying -----------------------------------------------------------------------------


@takes_files
@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_send(request: HttpRequest, chat: Chat) -> HttpResponse:
    parent = _parent(request, chat)
    form = _form(request, MessageForm, chat.persona.version)
    if form.is_valid():
        said = {"text": form.cleaned_data["text"], "models": form.cleaned_data["models"], "uploads": form.uploads}
        key = _key(request, parent and parent.pk, said["text"], said["models"], form.marks)
        try:
            sending.send(chat=chat, parent=parent, by=request.user, idempotency_key=key, **said)
            return _to_room(request, chat.pk)
        except sending.CannotSend as error:
            form.add_error(None, str(error))
    return _room(request, chat, form, status=422)


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_again(request: HttpRequest, chat: Chat, message_id: UUID) -> HttpResponse:
    answer = _message_or_404(chat, message_id, role=Message.Role.ASSISTANT)
    model = request.POST.get("model", "")[:200]
    return _do(request, chat, sending.try_again, answer.pk, model, answer=answer, model=model)


@takes_long_texts
@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_edit(request: HttpRequest, chat: Chat, message_id: UUID) -> HttpResponse:
    message = _message_or_404(chat, message_id)
    text = request.POST.get("text", "")
    return _do(request, chat, sending.edit, message.pk, text, message=message, text=text)


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_stop(request: HttpRequest, chat: Chat, message_id: UUID) -> HttpResponse:
    words = "Stopping"
    try:
        sending.stop(answer=_message_or_404(chat, message_id, role=Message.Role.ASSISTANT), by=request.user)
    except AlreadyOver:
        words = "This answer had ended already"
    if wants_fragment(request):
        return toast(request, words)
    messages.info(request, words)
    return _to_room(request, chat.pk)


def _do(request: HttpRequest, chat: Chat, action: Any, *parts: Any, **what: Any) -> HttpResponse:
    """Ask for another branch and show it; what cannot be is said on the page."""
    try:
        made = action(by=request.user, idempotency_key=_key(request, *parts), **what)
    except sending.CannotSend as error:
        messages.error(request, str(error))
        return _to_room(request, chat.pk)
    return _to_room(request, chat.pk, made.pk)


# --- keeping ----------------------------------------------------------------------------


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_rename(request: HttpRequest, chat: Chat) -> HttpResponse:
    form = RenameForm(request.POST)
    if form.is_valid():
        keeping.rename(chat=chat, title=form.cleaned_data["title"], by=request.user)
        messages.success(request, "Chat renamed")
    else:
        messages.error(request, "A title has 1 to 120 characters")
    return redirect("chat_room", request.team.slug, chat.pk)


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_archive(request: HttpRequest, chat: Chat) -> HttpResponse:
    keeping.archive(chat=chat, by=request.user)
    messages.success(request, "Chat archived")
    return redirect("chat_list", request.team.slug)


@require_POST
@team_view(Permission.CHAT_USE)
@of_own_chat
def chat_bring_back(request: HttpRequest, chat: Chat) -> HttpResponse:
    keeping.bring_back(chat=chat, by=request.user)
    messages.success(request, "Chat brought back")
    return redirect("chat_room", request.team.slug, chat.pk)


# --- shared -----------------------------------------------------------------------------


def _form(request: HttpRequest, kind: type[MessageForm], version: Any) -> Any:
    given = (request.POST, request.FILES) if request.method == "POST" else ()
    return kind(*given, team=request.team, by=request.user, version=version)


def _key(request: HttpRequest, *parts: object) -> str:
    """A key for one press of a button on one page: sent twice it is the same, changed it is another."""
    pressed = sending_key(request) or uuid4().hex
    return sha256("\0".join([pressed, *map(str, parts)]).encode(errors="replace")).hexdigest()


def _to_room(request: HttpRequest, chat_id: UUID, place: UUID | None = None) -> HttpResponse:
    where = f"?m={place}" if place else ""
    return redirect(reverse("chat_room", args=[request.team.slug, chat_id]) + where + "#newest")


def _may_write(request: HttpRequest, chat: Chat) -> bool:
    is_mine = chat.user_id == request.user.pk
    return is_mine and chat.archived_at is None and request.membership.allows(Permission.CHAT_USE)


def _chat_or_404(request: HttpRequest, chat_id: UUID) -> Chat:
    """One's own chat, or one that is shared with the team."""
    readable = Q(user=request.user) | Q(shared_at__isnull=False)
    rows = request.team.chats.select_related("persona__version", "user", "team")
    return get_object_or_404(rows.filter(readable), pk=chat_id)


def _message_or_404(chat: Chat, message_id: UUID, **which: Any) -> Message:
    rows = chat.messages.select_related("chat", "run", "parent", "team")
    return get_object_or_404(rows, pk=message_id, **which)


def _answer_or_404(request: HttpRequest, chat: Chat, message_id: UUID) -> Shown:
    try:
        shown = reading.answer_view(team=request.team, message_id=message_id)
    except Message.DoesNotExist as error:
        raise Http404 from error
    if shown.message.chat_id != chat.pk or not shown.is_answer:
        raise Http404
    return shown


def _parent(request: HttpRequest, chat: Chat) -> Message | None:
    wanted = request.POST.get("parent", "")
    found = chat.messages.select_related("run").filter(pk=as_uuid(wanted)).first() if wanted else None
    if wanted and found is None:
        raise Http404
    return found
