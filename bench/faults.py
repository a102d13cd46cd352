"""What goes wrong on purpose while a mixed load runs: every class of failure, on models of its own."""

from typing import Any

Rule = dict[str, Any]


def status(model: str, code: int, *, every: int = 1, **more: Any) -> Rule:
    """Refuse a model's every so manieth request before anything is generated."""
    return {"match": {"model": model, "every": every}, "answer": {"kind": "status", "status": code} | more}


def spoiled(model: str, kind: str, *, every: int, **more: Any) -> Rule:
    """Let every so manieth answer of a model go wrong in this way."""
    return {"match": {"model": model, "every": every}, "answer": {"kind": kind} | more}


# The first rule that is due decides, so what is rarer comes first.
MIXED: list[Rule] = [
    status("anthropic/claude-sonnet-4.6", 429, every=3, retry_after=1),
    spoiled("openai/gpt-5.4-mini", "dear", every=3),
    status("openai/gpt-5.4", 429, every=4),
    status("anthropic/claude-haiku-4.5", 529, every=7),
    spoiled("google/gemini-2.5-flash", "cut", every=13),
    spoiled("google/gemini-2.5-flash", "error_in_200", every=5, status=502),
    spoiled("mistralai/mistral-medium-3.1", "empty", every=6),
    spoiled("deepseek/deepseek-v3.2", "silence", every=23, delay=4),
    spoiled("deepseek/deepseek-v3.2", "mid_stream_error", every=9, status=502),
    spoiled("openai/gpt-oss-120b", "slow", every=4, delay=0.1),
    status("meta-llama/llama-3.3-70b-instruct", 503, every=3),
    spoiled("x-ai/grok-4.20", "garbage", every=11),
    spoiled("x-ai/grok-4.20", "cut", every=17, at="head"),
    status("google/gemini-2.0-flash-001", 404),  # withdrawn
    spoiled("openai/gpt-4o-mini", "dear", every=5),
    {"match": {"path": "/key", "every": 9}, "answer": {"kind": "status", "status": 502}},
    {"match": {"path": "/models/count", "every": 9}, "answer": {"kind": "cut", "at": "head"}},
]
