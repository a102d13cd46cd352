"""
The hard bounds of one turn of a chat, and what fits into an answer to a model. Pure.

However a model behaves, a turn ends: after so many answers, tool calls, seconds and platform credits.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

MOST_ALIKE = 2  # calls with the same arguments; the next one is answered without being made
MOST_RESULT = 24_000  # characters of one result that a model is given, about 6,000 tokens
MOST_RESULTS = 120_000  # characters of all results of one turn
LEAST_RESULT = 2_000  # that a result gets in any case
MOST_CALLS_AT_ONCE = 8


class Limits(Protocol):
    """What a persona's version says of a turn."""

    most_steps: int
    most_tool_calls: int
    most_seconds: int
    most_credits: int


def why_stop(version: Limits, steps: int, tool_calls: int, seconds: float, credits: int) -> str:
    """
    Say why a turn may not go on to another answer; empty when it may.

    `steps` are the answers that a model has given, `tool_calls` those that it has asked for, made or
    not, `seconds` how long the turn was at work, `credits` the platform credits it took or holds.
    """
    if tool_calls > version.most_tool_calls:
        most = version.most_tool_calls
        return f"It asked for more than {_count(most, 'tool call')}, which is the most for one turn.{HELP}"
    if steps >= version.most_steps:
        return f"After {_count(version.most_steps, 'answer')} it still asked for tools.{HELP}"
    if seconds >= version.most_seconds:
        return too_long(version)
    if credits >= version.most_credits:
        return f"It took all {version.most_credits:,} platform credits that one turn may take.{HELP}"
    return ""


def too_long(version: Limits) -> str:
    """Say that a turn took longer than it may."""
    return f"It took longer than {_count(version.most_seconds, 'second')}.{HELP}"


HELP = " Ask for less at once, or raise the limit in the persona's settings."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# --- the same call again ----------------------------------------------------------------


def canonical(name: str, arguments: str) -> str:
    """Return what is the same for calls that ask the same: order and spacing of JSON mean nothing."""
    try:
        value = json.loads(arguments or "{}")
        return f"{name} {json.dumps(value, sort_keys=True, separators=(',', ':'))}"
    except (ValueError, RecursionError):
        return f"{name} {arguments}"


def repeated(calls: Sequence[tuple[str, str]], doubted: Sequence[bool] = ()) -> list[bool]:
    """
    For each call of a turn, given by name and arguments in order: whether it was made often enough before.

    Once is enough for a call that is `doubted`: it may have been carried out.
    """
    seen: Counter[str] = Counter()
    found = []
    for place, (name, arguments) in enumerate(calls):
        key = canonical(name, arguments)
        found.append(seen[key] >= MOST_ALIKE)
        seen[key] += MOST_ALIKE if doubted and doubted[place] else 1
    return found


# --- what fits --------------------------------------------------------------------------


def room_for_each(used: int, results: int) -> int:
    """Return the characters that each of so many new results may have, after `used` ones in this turn."""
    return max(LEAST_RESULT, min(MOST_RESULT, (MOST_RESULTS - used) // max(results, 1)))


def fitted(value: Any, room: int) -> tuple[str, str]:
    """
    Return a result as text of at most `room` characters, and a note on what was left out, if anything was.

    Text is cut at its end. Of other values the longest list loses its last entries, so that what
    stays is JSON; where that does not help, the JSON is cut too.
    """
    if isinstance(value, str):
        return _cut(value, room)
    text = _json(value)
    if len(text) <= room:
        return text, ""
    path = _longest_list(value)
    if path is not None:
        entries = _at(value, path)
        kept = _most_that_fit(value, path, entries, room)
        if kept:
            return _json(_with(value, path, entries[:kept])), (
                f"{len(entries) - kept:,} of {len(entries):,} entries of {path[-1] if path else 'the list'} were left "
                "out, since they did not fit. Ask for fewer, or for others."
            )
    return _cut(text, room)


def _cut(text: str, room: int) -> tuple[str, str]:
    if len(text) <= room:
        return text, ""
    return text[:room], f"{len(text) - room:,} of {len(text):,} characters were left out, since they did not fit."


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _longest_list(value: Any) -> tuple[str, ...] | None:
    """Where the list is that takes most room: the value itself, or one of its fields."""
    if isinstance(value, list):
        return ()
    if not isinstance(value, dict):
        return None
    lists = {name: len(_json(held)) for name, held in value.items() if isinstance(held, list) and held}
    return (max(lists, key=lambda name: lists[name]),) if lists else None


def _at(value: Any, path: tuple[str, ...]) -> list[Any]:
    return value[path[0]] if path else value


def _with(value: Any, path: tuple[str, ...], entries: list[Any]) -> Any:
    return value | {path[0]: entries} if path else entries


def _most_that_fit(value: Any, path: tuple[str, ...], entries: list[Any], room: int) -> int:
    left = room - len(_json(_with(value, path, [])))
    for kept, entry in enumerate(entries):
        left -= len(_json(entry)) + (1 if kept else 0)
        if left < 0:
            return kept
    return len(entries)
