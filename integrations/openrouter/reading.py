"""From the JSON body of a success to an Answer, or to the failure that hides in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from integrations.errors import BadAnswer, EmptyAnswer, RefusedByPolicy, UpstreamError
from integrations.openrouter.explain import INSIDE_A_SUCCESS, explain
from integrations.openrouter.payload import as_dict, as_text, count, dicts, encode, usd
from integrations.redaction import Redactor
from integrations.wire import Answer, Request, ToolCall

DECLINED = ("content_filter", "refusal")
STOPPED = {"message": "The model stopped with an error."}


@dataclass(frozen=True, slots=True)
class Output:
    """What a model made, whichever API style it was asked in."""

    text: str = ""
    finish_reason: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    useful: bool = False  # there is something for the reader: text, tool calls, pictures, sound
    begun: bool = False  # there is at least something to pay for, such as reasoning
    error: Any = None


def read_answer(
    data: dict[str, Any], *, request: Request, redactor: Redactor, headers: Mapping[str, str], **measured: Any
) -> Answer:
    """
    Return the Answer that a body of status 2xx stands for.

    Raises the error inside it, EmptyAnswer or RefusedByPolicy when a model
    said nothing, and BadAnswer when what was asked for is not there.
    """
    output = read_output(request, data)
    if data.get("error") or output.error:
        said = data if data.get("error") else {"error": output.error}
        raise explain(INSIDE_A_SUCCESS, headers, said, request=request, redactor=redactor)
    if request.billable and not output.useful:
        raise _nothing(output)
    if request.method == "GET" and "data" not in data:
        raise BadAnswer("OpenRouter's answer lacks its data.")
    if request.mints and measured.get("secret") is None:
        raise BadAnswer("OpenRouter's answer lacks the key it made.")
    usage = as_dict(data.get("usage"))
    return Answer(
        data=data,
        model=as_text(data.get("model"))[:200],
        provider=as_text(data.get("provider"))[:200],
        text=output.text,
        finish_reason=output.finish_reason,
        tokens_in=count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        tokens_out=count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cost_usd=cost_of(data),
        tool_calls=output.tool_calls,
        **measured,
    )


def read_output(request: Request, data: dict[str, Any]) -> Output:
    """Return what the model made; nothing for endpoints without a model."""
    if request.path == "/chat/completions":
        return _chat_output(data)
    return _message_output(data) if request.path == "/messages" else Output()


def cost_of(data: dict[str, Any]) -> Decimal | None:
    """
    What the answer says it cost, in US dollars.

    With the customer's own provider key the provider's bill comes on top of
    `cost`; otherwise `cost` holds it already and adding would count it twice.
    """
    usage = as_dict(data.get("usage"))
    cost = usd(usage.get("cost"))
    if cost is None or usage.get("is_byok") is not True:
        return cost
    return cost + (usd(as_dict(usage.get("cost_details")).get("upstream_inference_cost")) or 0)


def settle(error: UpstreamError, data: dict[str, Any], *, request: Request) -> None:
    """Add to an error what had arrived before it: text, cost, and whether anything may be billed."""
    output = read_output(request, data)
    error.partial_text = output.text
    error.cost_usd = cost_of(data)
    if error.cost_usd is not None:
        error.maybe_billed = error.cost_usd > 0
    elif request.billable and output.begun:
        error.maybe_billed = True
    if request.streams and output.text:
        # Somebody has read it: a second try would say it again, and cost again.
        error.retryable = error.try_next_model = False


def _nothing(output: Output) -> UpstreamError:
    if output.finish_reason in DECLINED:
        return RefusedByPolicy("The model declined to answer.", error_type=output.finish_reason, maybe_billed=True)
    # Free of charge is only an answer without output and without a finish.
    return EmptyAnswer("The model answered nothing.", maybe_billed=bool(output.finish_reason))


def _chat_output(data: dict[str, Any]) -> Output:
    choice = next(iter(dicts(data.get("choices"))), {})
    message = as_dict(choice.get("message"))
    text = _plain(message.get("content"))
    calls = tuple(_chat_call(data, call, place) for place, call in enumerate(dicts(message.get("tool_calls"))))
    finish = as_text(choice.get("finish_reason"))
    useful = bool(text or calls or any(message.get(name) for name in ("images", "audio", "refusal")))
    return Output(
        text=text,
        finish_reason=finish or ("tool_calls" if calls else ""),
        tool_calls=calls,
        useful=useful,
        begun=useful or bool(message.get("reasoning") or message.get("reasoning_details")),
        error=choice.get("error") or (STOPPED if finish == "error" else None),
    )


def _chat_call(data: dict[str, Any], call: dict[str, Any], place: int) -> ToolCall:
    # Written back into the body too: the next turn must name the call by the same id.
    call["id"] = as_text(call.get("id")) or f"call_{as_text(data.get('id'))}_{place}"
    function = as_dict(call.get("function"))
    return ToolCall(call["id"], as_text(function.get("name")), _arguments(function.get("arguments")))


def _message_output(data: dict[str, Any]) -> Output:
    blocks = dicts(data.get("content"))
    calls = tuple(
        ToolCall(as_text(block.get("id")), as_text(block.get("name")), _arguments(block.get("input")))
        for block in blocks
        if block.get("type") == "tool_use"
    )
    text = _plain(blocks)
    other = [block for block in blocks if block.get("type") not in ("text", "thinking", "redacted_thinking")]
    return Output(
        text=text,
        finish_reason=as_text(data.get("stop_reason")) or ("tool_use" if calls else ""),
        tool_calls=calls,
        useful=bool(text or other),
        begun=any(block.get("text") or block.get("type") != "text" for block in blocks),
    )


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(part.get("text")) for part in dicts(content) if part.get("type") == "text")


def _arguments(value: Any) -> str:
    """The arguments of a tool call as JSON text, whichever way they came."""
    if isinstance(value, str):
        return value.strip() or "{}"
    return encode(value).decode() if isinstance(value, dict) else "{}"
