"""
The stream of a chat: what its turns say, as server-sent events.

A page connects with `after`, the time in ms up to which it knows everything, or 0; when it connects
again, the browser names the last event's id, which is such a time. Each answer being given comes
whole first, whatever the page has of it, and then grows; whatever else changes in a turn replaces its
fragment. After the last turn's end comes the event `done`. A page that is refused (429), or that has
no stream (STREAMING=off), asks for `chat_answer` of each answer instead.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from accounts.zones import zone_or_utc
from definable.streams import PING, EventStream, frame, partial
from personas.chat import reading
from personas.chat.following import Follower, TooManyStreams, hub, in_thread, may_follow
from personas.chat.looking import Claim, Turn
from personas.models import Chat, Message
from personas.templatetags.chats import said
from personas.views.chat_growing import Growing
from personas.views.chats import answer_context

PING_EVERY = 15.0  # seconds without a word
RETRY_AFTER = 10  # seconds
THOUGHT_EVERY = 1.0  # seconds between two drawings of what a model thinks
OFTEN = 4_000  # characters that are drawn in the event loop; more are drawn in a thread
GOODBYE = "You can no longer follow this chat here. Reload the page."


@require_safe
@team_view(Permission.CHAT_VIEW)
def chat_stream(request: HttpRequest, chat_id: UUID) -> HttpResponseBase:
    if not settings.STREAMING:
        raise Http404
    readable = Q(user=request.user) | Q(shared_at__isnull=False)
    chat = get_object_or_404(request.team.chats.filter(readable).select_related("persona"), pk=chat_id)
    if not may_follow(request.user.pk):
        return HttpResponse("Too many open streams.", status=429, headers={"Retry-After": str(RETRY_AFTER)})
    return EventStream(lambda: events(request, chat, _claim(request, chat)))


def _claim(request: HttpRequest, chat: Chat) -> Claim:
    seen = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
    return Claim(
        session_key=request.session.session_key or "",
        user_id=request.user.pk,
        password_mark=hashlib.sha256(request.user.password.encode()).hexdigest(),
        team_id=request.team.pk,
        chat_id=chat.pk,
        since=int(seen) if seen.isascii() and seen.isdecimal() and len(seen) <= 15 else 0,
    )


async def events(request: HttpRequest, chat: Chat, claim: Claim) -> AsyncGenerator[bytes, None]:
    """Yield the frames of one page until nothing is left to follow, or the page may not follow any more."""
    yield PING  # the headers go out with it
    try:
        async with hub().following(claim) as follower:
            page = _Page(request, chat, follower)
            async for piece in page.events():
                yield piece
    except TooManyStreams:
        return  # several asked at once: the browser tries again by itself


class _Page:
    """One open page, and what it was sent."""

    def __init__(self, request: HttpRequest, chat: Chat, follower: Follower) -> None:
        self.request, self.chat, self.follower = request, chat, follower
        self._shown: dict[UUID, str] = {}
        self._growing: dict[UUID, Growing] = {}
        self._thoughts: dict[UUID, tuple[float, int]] = {}
        self._next = 0.0  # when to draw what was too early to draw

    async def events(self) -> AsyncIterator[bytes]:
        said_at = time.monotonic()
        while True:
            await self.follower.wait(max(0.0, min(said_at + PING_EVERY, self._next) - time.monotonic()))
            if self.follower.refused:
                yield self._frame(partial("#toasts", "beforeend", _toast(GOODBYE)))
                yield self._frame("", "done")
                return
            async for piece in self._news():
                said_at = time.monotonic()
                yield piece
            if self._is_over:
                yield self._frame("", "done")
                return
            if time.monotonic() - said_at >= PING_EVERY:
                said_at = time.monotonic()
                yield PING

    @property
    def _turns(self) -> tuple[Turn, ...]:
        return self.follower.view.turns if self.follower.view else ()

    @property
    def _is_over(self) -> bool:
        return self.follower.view is not None and not any(turn.goes_on for turn in self._turns)

    async def _news(self) -> AsyncIterator[bytes]:
        self._next = math.inf
        for turn in self._turns:
            if self._shown.get(turn.run_id) != turn.version:
                self._shown[turn.run_id] = turn.version
                yield self._frame(await self._answer(turn))
                self._begin_again(turn)
            for stage_id, _ in turn.stages:
                async for piece in self._stage(stage_id):
                    yield piece

    async def _answer(self, turn: Turn) -> str:
        """The fragment of a turn, as every page shows it."""
        html = await in_thread(self.follower.hub.pool, _draw_answer, self.request, self.chat, turn.message_id)
        return partial(f"#answer-{turn.message_id}", "outerMorph", html)

    def _begin_again(self, turn: Turn) -> None:
        """What streamed into the fragment before was replaced with it."""
        for stage_id, _ in turn.stages:
            self._growing.pop(stage_id, None)
            self._thoughts.pop(stage_id, None)

    async def _stage(self, stage_id: UUID) -> AsyncIterator[bytes]:
        heard = self.follower.said(stage_id)
        growing = self._growing.setdefault(stage_id, Growing(f"text-{stage_id}", said))
        if growing.left(heard["text"]) and self._is_due(growing.due_at):
            yield self._frame(await self._grown(growing, heard["text"]))
        drawn_at, drawn = self._thoughts.get(stage_id, (0.0, 0))
        if len(heard["reasoning"]) > drawn and self._is_due(drawn_at + THOUGHT_EVERY):
            self._thoughts[stage_id] = (time.monotonic(), len(heard["reasoning"]))
            yield self._frame(partial(f"#thought-{stage_id}", "innerMorph", _draw_thought(heard["reasoning"])))

    async def _grown(self, growing: Growing, text: str) -> str:
        if growing.left(text) <= OFTEN:
            return growing.grow(text)
        return await asyncio.get_running_loop().run_in_executor(self.follower.hub.pool, growing.grow, text)

    def _is_due(self, at: float) -> bool:
        """Whether something may be drawn already; if not, it is looked at again when it may."""
        if at <= time.monotonic():
            return True
        self._next = min(self._next, at)
        return False

    def _frame(self, data: str, event: str = "") -> bytes:
        at = self.follower.view.at if self.follower.view else self.follower.claim.since
        return frame(data, id=str(at), event=event)


def _draw_answer(request: HttpRequest, chat: Chat, message_id: UUID) -> str:
    try:
        answer = reading.answer_view(team=request.team, message_id=message_id)
    except Message.DoesNotExist:
        return ""
    with timezone.override(zone_or_utc(request.user.zone)):
        context = answer_context(request, chat) | {"answer": answer}
        return render_to_string("personas/chat/_answer.html", context, request)


def _draw_thought(text: str) -> str:
    return render_to_string("personas/chat/_thought.html", {"text": text, "is_on": True})


def _toast(text: str) -> str:
    return render_to_string("components/_toast.html", {"text": text, "tone": "bad"})
