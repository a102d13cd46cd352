"""
What a lost worker's calls had brought. Each was closed in the log before its stage was, so the log may know it.

Then it was billed and came whole: it is taken over, and nobody is asked again.
"""

import json
from typing import Any

from audit.models import Content
from integrations.calls import CallResult
from integrations.models import Call
from integrations.wire import Answer, ToolCall
from personas import choosing
from personas.ledger import open_ledger
from personas.models import PersonaVersion, Run, StageRun
from vault.content import open_content
from vault.errors import Unreadable

WHY = "Its worker ended here; another one took the answer from the log."


def last_call(stage: StageRun) -> Call | None:
    """The last call that this stage made."""
    return Call.objects.filter(run_id=stage.run_id, stage_id=stage.pk).order_by("-started_at").first()


def result_of(call: Call) -> dict[str, Any] | None:
    """The envelope that the log keeps of an answered call; None where it keeps none."""
    return _logged(call, call.response_content_id)


def answer_of(run: Run, stage: StageRun, format: str) -> CallResult | None:
    """
    Return the answer of this stage if it came whole before its worker was lost, with its row in the ledger.

    None where nobody knows, where it failed, and where the log keeps no words. Raises LeaseLost.
    """
    call = last_call(stage)
    if call is None or call.state != Call.State.DONE or _chose_a_model(call):
        return None
    if (result := result_of(call)) is None:
        return None
    open_ledger(run, stage, why_lost=WHY)
    return CallResult(call, _answer(call, result["data"], format), result)


def used_fallback(stage: StageRun, call: Call) -> bool:
    """Whether other models were passed over, or failed, before the one of this call."""
    return stage.attempts.exclude(outcome="done").exclude(model=call.model).exists()


def _chose_a_model(call: Call) -> bool:
    """Whether this call only asked which model is to answer."""
    request = _logged(call, call.request_content_id) or {}
    return choosing.is_question(request.get("messages", ()))


def _logged(call: Call, content_id: Any) -> dict[str, Any] | None:
    content = Content.objects.filter(pk=content_id, team_id=call.team_id).first()
    try:
        return json.loads(open_content(content=content)) if content else None
    except Unreadable:
        return None


def _answer(call: Call, data: dict[str, Any], format: str) -> Answer:
    if format == PersonaVersion.Format.MESSAGES:
        calls = [ToolCall(each["id"], each["name"], json.dumps(each["input"])) for each in data["tool_uses"]]
        body, finish = {"content": data["content"]}, data["stop_reason"]
    else:
        calls = [ToolCall(**each) for each in data["tool_calls"]]
        message = {name: data[name] for name in ("reasoning", "reasoning_details") if data[name]}
        body, finish = {"choices": [{"message": message}]}, data["finish_reason"]
    return Answer(
        call.status or 200,
        body,
        model=data["model"],
        text=data["text"],
        finish_reason=finish or "",
        tool_calls=tuple(calls),
    )
