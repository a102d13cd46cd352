"""Records of what was generated, which can be read only some time after the answer."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .errors import ApiError
from .exchange import Request
from .serving import Served

KEPT = 5_000


@dataclass
class Generation:
    """One record, without the texts it is about."""

    account: str
    visible_at: datetime
    data: dict[str, Any]

    def cancel(self) -> None:
        """Note that the client left in the middle."""
        self.data["cancelled"] = True


def record_of(served: Served, request: Request, *, latency_ms: int) -> dict[str, Any]:
    """What GET /generation shows of one answer."""
    completion = served.completion_tokens
    cost = float(served.cost.total)
    finish = finish_reason(served)
    referer = request.headers.get("http-referer")
    return {
        "id": served.generation_id,
        "model": served.answered_by,
        "origin": referer or "",
        "created_at": served.at.isoformat(),
        "total_cost": cost,
        "usage": cost,
        "upstream_inference_cost": 0,
        "cache_discount": None,
        "is_byok": False,
        "streamed": served.ask.streams,
        "cancelled": False,
        "provider_name": served.provider,
        "provider_responses": [_response(served, attempt, latency_ms) for attempt in served.attempts],
        "latency": latency_ms,
        "generation_time": latency_ms * 7 // 10,
        "moderation_latency": None,
        "finish_reason": finish,
        "native_finish_reason": finish,
        "tokens_prompt": served.prompt_tokens,
        "tokens_completion": completion,
        "native_tokens_prompt": served.prompt_tokens,
        "native_tokens_completion": completion,
        "native_tokens_reasoning": served.thought.reasoning_tokens,
        "native_tokens_cached": 0,
        "native_tokens_completion_images": None,
        "num_media_prompt": sum(turn.images for turn in served.ask.turns) or None,
        "num_media_completion": None,
        "num_input_audio_prompt": None,
        "num_search_results": None,
        "num_fetches": None,
        "api_type": "completions",
        "app_id": None,
        "external_user": served.ask.user,
        "router": served.requested if served.strategy in ("auto", "free") else None,
        "service_tier": served.endpoint.get("service_tier"),
        "http_referer": referer,
        "user_agent": request.headers.get("user-agent"),
        "upstream_id": None,
        "preset_id": None,
        "web_search_engine": None,
        "workspace_id": None,
        "data_region": "global",
        "request_id": None,
        "session_id": served.ask.session_id,
        "response_cache_source_id": None,
    }


class Generations:
    """The newest records; older ones are forgotten."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Generation] = OrderedDict()

    def add(self, served: Served, request: Request, *, account: str, latency: float, delay: float) -> Generation:
        record = Generation(
            account=account,
            visible_at=served.at + timedelta(seconds=latency + delay),
            data=record_of(served, request, latency_ms=int(latency * 1000)),
        )
        self._records[served.generation_id] = record
        if len(self._records) > KEPT:
            self._records.popitem(last=False)
        return record

    def find(self, generation_id: str, *, account: str, now: datetime) -> Generation:
        """Raises ApiError(404) for an unknown id, another account's, and one that is too fresh."""
        record = self._records.get(generation_id)
        if record is None or record.account != account or record.visible_at > now:
            raise ApiError(404)
        return record


def finish_reason(served: Served) -> str | None:
    """Why the answer ended, in the chat format's words."""
    if served.is_blank:
        return None
    return "error" if served.fault_is("mid_stream_error") else served.thought.finish


def _response(served: Served, attempt: dict[str, Any], latency_ms: int) -> dict[str, Any]:
    response = {"status": attempt["status"], "latency": latency_ms, "is_byok": False}
    if attempt["provider"]:
        response["provider_name"] = attempt["provider"]
    if attempt["status"] == 200:
        response["model_permaslug"] = served.model["canonical_slug"]
    return response
