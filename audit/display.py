"""What the log holds, as people read it. Text from models and people stays text."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TITLES = {"request": "Prompt", "response": "Response"}
CALL_START = "call.started"
STATES = {"done", "unknown", "failed", "succeeded", "stopped", "missed", "overlap", "started"}
# Said in other words than the log's.
WORDS = {"done": "Succeeded", "out_of_credits": "Out of platform credits", "policy_refuses": "Refused by a policy"}
KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the last two join letters and emoji
HIDDEN_TAGS = range(0xE0100, 0xE01F0)  # variation selectors that no font uses and that can carry a message
DATA_URL = re.compile(
    r"data:(?:image|audio|video|application)/[\w.+-]{1,80};base64,(?=[A-Za-z0-9+/]+={0,2}\Z)", re.ASCII
)
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
SHORT_FILE = 1024  # characters of base64 that are shown as they are
SUSPECT = re.compile(r"[^\x20-\x7e\n\t\xa1-\xac\xae-\u02ff]")


def visible(text: str) -> str:
    """
    Write characters that hide, reorder or cannot be printed as their code, such as [U+202E].

    What is left can be trusted to stand where it is shown.
    """
    return SUSPECT.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character in KEPT:
        return character
    hides = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or ord(character) in HIDDEN_TAGS
    return f"[U+{ord(character):04X}]" if hides else character


def action_words(action: str) -> str:
    """Say an action as a short sentence: "vault.credential.revoked" is "Credential revoked"."""
    parts = action.split(".")
    words = parts[1:] if len(parts) > 2 else parts
    return " ".join(words).replace("_", " ").capitalize()


def outcome_words(outcome: str) -> str:
    """Say an outcome: "rate_limited" is "Rate limited"."""
    return WORDS.get(outcome) or outcome.replace("_", " ").capitalize()


def outcome_state(action: str, outcome: str) -> tuple[str, str]:
    """Return the state that an event shows and its word; the word is empty where the state's own says it."""
    if action == CALL_START:
        return "sent", "Started"
    if action == "call.refused":
        return "blocked", outcome_words(outcome)
    if outcome in STATES or not outcome:
        return outcome, ""
    return ("failed" if action.startswith("call.") else outcome), outcome_words(outcome)


def facts_of(details: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the small facts of an event, to be read: name and value. The rules that decided are in `why_of`."""
    return [(_capital(name), visible(_plain(value))) for name, value in details.items() if name != "why"]


@dataclass(frozen=True, slots=True)
class Looked:
    """One rule that was looked at before a call: whether it let the call pass, and why."""

    holds: bool
    words: str


def why_of(details: dict[str, Any]) -> list[Looked]:
    """Return the rules that were looked at before a call, in order; none where the event holds none."""
    steps = details.get("why")
    found = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return [Looked(step.get("holds") is True, visible(_plain(step.get("words")))) for step in found]


def _capital(name: str) -> str:
    return visible(name.replace("_", " ").capitalize())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        parts = [_plain(each) for each in value]
        return (" " if all(part.endswith(".") for part in parts) else ", ").join(parts)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- prompts and responses --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """One sealed text, opened: who said what in it, and the whole of it."""

    kind: str
    sha256: str
    said: list[tuple[str, str]]
    whole: str

    @property
    def title(self) -> str:
        return TITLES.get(self.kind, self.kind.capitalize())


def read(kind: str, sha256: str, data: bytes) -> Reading:
    """Lay out opened content for reading. Whatever it is, the whole of it is there; a file is named by its hash."""
    text = data.decode(errors="backslashreplace")
    try:
        value = _without_files(json.loads(text))
        whole = json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # no JSON, or nested so deep that nobody could read it
        return Reading(kind, sha256, [], visible(text))
    return Reading(kind, sha256, [(visible(who), visible(words)) for who, words in _said(value)], visible(whole))


def _without_files(value: Any) -> Any:
    """The same with pictures and documents named, where a request holds one: nobody reads megabytes of base64."""
    if isinstance(value, list):
        return [_without_files(each) for each in value]
    if not isinstance(value, dict):
        return value
    is_source = isinstance(value.get("media_type"), str)
    return {name: _field(name, each, is_source=is_source) for name, each in value.items()}


def _field(name: str, value: Any, *, is_source: bool) -> Any:
    if not isinstance(value, str):
        return _without_files(value)
    if name == "data" and is_source and BASE64.fullmatch(value):
        return _by_hash("", value)
    found = DATA_URL.match(value) if name in ("url", "file_data") else None
    return _by_hash(found[0], value[found.end() :]) if found else value


def _by_hash(kind: str, encoded: str) -> str:
    if len(encoded) < SHORT_FILE:
        return kind + encoded
    return f"{kind}[{len(encoded)} characters, SHA-256 {hashlib.sha256(encoded.encode(errors='replace')).hexdigest()}]"


def _said(value: Any) -> Iterator[tuple[str, str]]:
    """Find what was said in a request for a model, or in its answer."""
    if not isinstance(value, dict):
        return
    if value.get("system"):
        yield "system", _words_of(value["system"])
    messages = value.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield str(message.get("role", "")), _words_of(message.get("content"))
    data = value.get("data")
    for name in ("text", "partial_text"):
        if isinstance(data, dict) and isinstance(data.get(name), str) and data[name]:
            yield "answer", data[name]


def _words_of(content: Any) -> str:
    """The text of a message; a part that is no text is named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else json.dumps(content, ensure_ascii=False)
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type", "part") if isinstance(part, dict) else "part"
    return f"[{kind}]"
