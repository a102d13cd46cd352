"""Streams: how bytes become events, and events the answer that would have come in one piece."""

import json
import time
from decimal import Decimal

import pytest

from integrations import errors
from integrations.errors import TimedOut
from integrations.openrouter.streams import events
from integrations.wire import ToolCall
from tests.integrations.scripted import CLOSE, CUT, answer, stream
from tests.integrations.upstream import (
    CHAT_STREAM,
    GENERATION,
    MESSAGE_STREAM,
    PATIENT,
    SILENCE,
    USAGE,
    ask,
    chunk,
    completion,
    error_body,
    failure,
    tool_chunk,
)

WIRE = b': OPENROUTER PROCESSING\r\n\r\nevent: ping\ndata: {"a":\ndata: 1}\n\n\n\ndata:two\r\n\r\nid: 7\n\ndata: [DONE]'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size):
    pieces = [WIRE[at : at + size] for at in range(0, len(WIRE), size)]

    assert list(events(pieces)) == [b'{"a":\n1}', b"two", b"[DONE]"]


def test_an_event_of_megabytes_in_small_pieces_is_read_once():
    piece = b"x" * 1000

    assert list(events([b"data: ", *[piece] * 5000, b"\n\n"])) == [piece * 5000]


def test_a_streamed_chat_equals_the_answer_in_one_piece():
    whole = ask(answer(completion()), CHAT_STREAM)
    pieces = [chunk("Hello "), chunk("there!"), chunk("", finish="stop"), chunk("", finish="stop", usage=USAGE)]

    got = ask(stream(*pieces, x_generation_id=GENERATION), CHAT_STREAM)

    assert (got.text, got.finish_reason, got.tokens_in, got.cost_usd, got.generation_id) == (
        whole.text,
        whole.finish_reason,
        whole.tokens_in,
        whole.cost_usd,
        whole.generation_id,
    )
    assert got.data | {"choices": []} == whole.data | {"choices": []}
    assert got.data["choices"][0]["message"] == whole.data["choices"][0]["message"]


def test_text_is_handed_on_while_the_answer_is_still_coming():
    heard: list[str] = []

    error = failure(stream(chunk("Hel"), chunk("lo"), SILENCE), CHAT_STREAM, on_text=heard.append)

    assert heard == ["Hel", "lo"]
    assert type(error) is errors.TimedOut
    assert (error.partial_text, error.maybe_billed, error.generation_id) == ("Hello", True, GENERATION)


def test_the_first_token_is_timed():
    got = ask(stream(chunk(""), 0.1, chunk("Hi"), 0.1, chunk(finish="stop")), CHAT_STREAM)

    assert 90 <= got.first_token_ms < got.latency_ms
    assert ask(answer(completion())).first_token_ms is None


def test_a_stream_answered_in_one_piece_is_read_and_heard():
    heard: list[str] = []

    got = ask(answer(completion()), CHAT_STREAM, on_text=heard.append)

    assert (got.text, heard) == ("Hello there!", ["Hello there!"])


def test_a_stream_refused_before_it_began_is_an_ordinary_error():
    error = failure(answer(error_body(402), 402), CHAT_STREAM)

    assert type(error) is errors.OutOfBalance
    assert error.maybe_billed is False


def test_an_error_in_the_middle_keeps_text_and_generation():
    last = chunk("", finish="error") | {"error": {"code": 429, "message": "Rate limit exceeded"}}

    error = failure(stream(chunk("Once upon"), last, done=False), CHAT_STREAM)

    assert type(error) is errors.RateLimited
    assert (error.partial_text, error.generation_id, error.maybe_billed) == ("Once upon", GENERATION, True)


def test_an_error_after_the_finish_takes_the_answer_back():
    error = failure(stream(chunk("Hi", finish="stop"), error_body(502)), CHAT_STREAM)

    assert type(error) is errors.Overloaded


@pytest.mark.parametrize("end", [CUT, CLOSE])
def test_a_stream_cut_before_its_finish_is_a_lost_connection(end):
    error = failure(stream(chunk("Once"), end, done=False, ends=False), CHAT_STREAM)

    assert type(error) is errors.Unreachable
    assert (error.partial_text, error.sent, error.maybe_billed, error.retryable) == ("Once", True, True, False)


def test_a_stream_that_ends_politely_before_its_finish_is_lost_too():
    error = failure(stream(chunk("Once"), done=False), CHAT_STREAM)

    assert type(error) is errors.Unreachable
    assert error.partial_text == "Once"


@pytest.mark.parametrize("garbage", [b"data: {not json\n\n", b"data: [1, 2]\n\n", b'data: {"id": "gen-1", "cho\n\n'])
def test_garbage_in_a_stream_is_a_bad_answer_with_the_text_before_it(garbage):
    error = failure(stream(chunk("Once"), garbage), CHAT_STREAM)

    assert type(error) is errors.BadAnswer
    assert (error.partial_text, error.maybe_billed) == ("Once", True)


def test_odd_types_in_chunks_are_passed_over():
    odd = [
        {"choices": "none"},
        {"choices": [None, 5]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": {"a": 1}, "tool_calls": [{"index": [1], "function": "x"}], "audio": 1}}]},
        {"choices": [{"index": 1, "delta": {"content": "a second answer"}}]},
        {"unknown": {"of": "tomorrow"}},
    ]

    got = ask(stream(*odd, chunk("Hi", finish="stop")), CHAT_STREAM)

    assert got.text == "Hi"


def test_what_the_reader_raises_stops_the_stream():
    class Stopped(Exception):
        pass

    def stop(text: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        ask(stream(chunk("Hi"), SILENCE), CHAT_STREAM, on_text=stop)


@pytest.mark.parametrize("reply", [[SILENCE], stream(SILENCE), stream(chunk("Hi"), SILENCE)])
def test_who_waits_may_leave_while_nothing_comes(reply):
    class Left(Exception):
        pass

    began = time.monotonic()

    def leave() -> None:
        if time.monotonic() - began > 0.5:
            raise Left

    with pytest.raises(Left):
        ask(reply, CHAT_STREAM, on_wait=leave, timeouts=PATIENT)

    assert time.monotonic() - began < 1.5


def test_a_silence_is_as_long_with_somebody_who_waits_as_without():
    error = failure(stream(chunk("Hi"), SILENCE), CHAT_STREAM, on_wait=lambda: None)

    assert (type(error), error.partial_text) == (TimedOut, "Hi")


def test_reasoning_is_heard_apart_from_the_text():
    thought, heard = [], []

    ask(
        stream(chunk(reasoning="Let me "), chunk(reasoning="see."), chunk("Hi", finish="stop")),
        CHAT_STREAM,
        on_reasoning=thought.append,
        on_text=heard.append,
    )

    assert (thought, heard) == (["Let me ", "see."], ["Hi"])


def test_pictures_sound_notes_and_refusals_are_assembled():
    picture = {"image_url": {"url": "data:image/png;base64,AA=="}}
    note = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}

    got = ask(
        stream(
            chunk(images=[picture], annotations=[note], audio={"id": "a1", "data": "AA", "transcript": "He"}),
            chunk(audio={"data": "BB", "transcript": "y"}, refusal="No."),
            chunk(finish="stop"),
        ),
        CHAT_STREAM,
    )

    message = got.data["choices"][0]["message"]
    assert (message["images"], message["annotations"]) == ([picture], [note])
    assert message["audio"] == {"id": "a1", "data": "AABB", "transcript": "Hey"}
    assert message["refusal"] == "No."


def test_log_probabilities_of_all_chunks_are_kept():
    pieces = [chunk("H"), chunk("i"), chunk(finish="stop")]
    for piece, token in zip(pieces, ["H", "i"], strict=False):
        piece["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": -0.5}]}

    got = ask(stream(*pieces), CHAT_STREAM)

    tokens = [entry["token"] for entry in got.data["choices"][0]["logprobs"]["content"]]
    assert tokens == ["H", "i"]


def test_half_characters_and_nul_become_what_a_database_can_hold():
    pieces = [b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83db\\u0000\\ud83d\\ude00"}}]}\n\n']

    got = ask(stream(*pieces, chunk(finish="stop")), CHAT_STREAM)

    assert got.text == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}\N{GRINNING FACE}"


# --- the Messages format ----------------------------------------------------------------


def start(**message):
    head = {"id": GENERATION, "type": "message", "role": "assistant", "model": "anthropic/claude-sonnet-4.5"}
    return {"type": "message_start", "message": head | {"content": [], "stop_reason": None, "usage": {}} | message}


def block(index, **content):
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index, **change):
    return {"type": "content_block_delta", "index": index, "delta": change}


def stop(reason="end_turn", **usage):
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


END = {"type": "message_stop"}
GOODBYE = b"event: data\ndata: [DONE]\n\n"


def test_a_streamed_message_is_assembled_whole():
    heard: list[str] = []

    got = ask(
        stream(
            start(provider="Anthropic", usage={"input_tokens": 12, "output_tokens": 1}),
            {"type": "ping"},
            block(0, type="thinking", thinking="", signature=""),
            delta(0, type="thinking_delta", thinking="Let "),
            delta(0, type="thinking_delta", thinking="me."),
            delta(0, type="signature_delta", signature="EqQB"),
            {"type": "content_block_stop", "index": 0},
            block(1, type="text", text="", citations=None),
            b": OPENROUTER PROCESSING\n\n",
            delta(1, type="text_delta", text="Hel"),
            delta(1, type="text_delta", text="lo"),
            delta(1, type="citations_delta", citation={"cited_text": "x"}),
            delta(1, type="a_delta_of_tomorrow", x=1),
            block(2, type="tool_use", id="toolu_1", name="look", input={}),
            delta(2, type="input_json_delta", partial_json=""),
            delta(2, type="input_json_delta", partial_json='{"far": 0'),
            delta(2, type="input_json_delta", partial_json=".5}"),
            stop("tool_use", output_tokens=9, input_tokens=None, cost=0.0021),
            END,
            GOODBYE,
            done=False,
        ),
        MESSAGE_STREAM,
        on_text=heard.append,
    )

    assert heard == ["Hel", "lo"]
    assert (got.text, got.finish_reason, got.model, got.provider) == (
        "Hello",
        "tool_use",
        "anthropic/claude-sonnet-4.5",
        "Anthropic",
    )
    assert (got.tokens_in, got.tokens_out, got.cost_usd) == (12, 9, Decimal("0.0021"))
    assert got.tool_calls == (ToolCall("toolu_1", "look", '{"far":0.5}'),)
    assert got.data["content"] == [
        {"type": "thinking", "thinking": "Let me.", "signature": "EqQB"},
        {"type": "text", "text": "Hello", "citations": [{"cited_text": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"far": Decimal("0.5")}},
    ]
    assert (got.data["stop_reason"], got.data["type"]) == ("tool_use", "message")


def test_a_tool_without_arguments_is_called_with_an_empty_object():
    steps = [start(), block(0, type="tool_use", id="t", name="look", input={}), stop("tool_use"), END]

    assert ask(stream(*steps, done=False), MESSAGE_STREAM).tool_calls == (ToolCall("t", "look", "{}"),)


def test_arguments_cut_off_by_a_limit_stay_the_text_they_are():
    cut = [block(0, type="tool_use", id="t", name="look"), delta(0, type="input_json_delta", partial_json='{"a')]

    got = ask(stream(start(), *cut, stop("max_tokens"), END), MESSAGE_STREAM)

    assert (got.tool_calls[0].arguments, got.data["content"][0]["input"]) == ('{"a', '{"a')


@pytest.mark.parametrize(
    "said",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"error": {"code": 529, "message": "Provider returned error"}},
    ],
)
def test_an_error_in_the_middle_of_a_message_keeps_the_text(said):
    steps = [start(), block(0, type="text", text=""), delta(0, type="text_delta", text="Once"), said]

    error = failure(stream(*steps, done=False), MESSAGE_STREAM)

    assert type(error) is errors.Overloaded
    assert (error.partial_text, error.generation_id, error.maybe_billed) == ("Once", GENERATION, True)


def test_a_message_cut_before_its_stop_is_lost():
    steps = [start(), block(0, type="text", text=""), delta(0, type="text_delta", text="Once"), CUT]

    error = failure(stream(*steps, done=False, ends=False), MESSAGE_STREAM)

    assert (type(error), error.partial_text) == (errors.Unreachable, "Once")


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([start(), stop("end_turn", cost=0), END], errors.EmptyAnswer),
        ([start(), stop("refusal", cost=0), END], errors.RefusedByPolicy),
    ],
)
def test_a_message_without_content_is_empty_or_declined(steps, kind):
    assert type(failure(stream(*steps, done=False), MESSAGE_STREAM)) is kind


def test_odd_types_in_a_message_are_passed_over():
    odd = [
        {"type": "content_block_delta", "index": {"a": 1}, "delta": None},
        {"type": "content_block_start", "index": "x", "content_block": None},
        {"type": "message_delta", "delta": 5, "usage": "none"},
        {"type": "an_event_of_tomorrow"},
    ]

    got = ask(stream(start(usage=None), *odd, delta(1, type="text_delta", text="Hi"), stop(), END), MESSAGE_STREAM)

    assert got.text == "Hi"


def test_every_chunk_boundary_of_a_tool_stream_gives_the_same_call():
    whole = json.dumps({"where": "up", "n": [1, 2, 3]})
    for at in range(len(whole) + 1):
        pieces = [
            tool_chunk(index=0, id="c", name="f", arguments=whole[:at]),
            tool_chunk(index=0, arguments=whole[at:]),
        ]
        got = ask(stream(*pieces, chunk(finish="tool_calls")), CHAT_STREAM)
        assert got.tool_calls == (ToolCall("c", "f", whole),)
