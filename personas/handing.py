"""What a trigger hands to its flow: which field of a JSON document becomes which input. Pure."""

import json
from collections.abc import Mapping
from typing import Any

WHOLE = "."
LONGEST_PATH = 200


class NothingThere(Exception):
    """A field that an input is taken from is not in the document; the message names both."""


def handed(mapping: Mapping[str, str], document: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the inputs that a document gives. A path is names and places in lists between dots; "." is all of it.

    Text stays as it is, anything else is written as JSON. Raises NothingThere.
    """
    return {name: _text(_at(document, path, name)) for name, path in mapping.items()}


def _at(document: Any, path: str, name: str) -> Any:
    found = document
    for part in [] if path == WHOLE else path.split("."):
        found = _inside(found, part)
        if found is _NOWHERE:
            raise NothingThere(f"The input “{name}” is taken from {path}, which is not in what came.")
    return found


_NOWHERE = object()


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(part, _NOWHERE)
    if isinstance(value, list) and part.isdecimal() and len(part) < 7 and int(part) < len(value):
        return value[int(part)]
    return _NOWHERE


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
