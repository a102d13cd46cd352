"""YAML that people exchange: plain data in and out, nothing that runs, refers to itself or grows when it is read."""

from typing import Any

import yaml

MOST_BYTES = 1024 * 1024
MOST_PARTS = 20_000  # of a file: each is a value or the beginning or end of a list
MOST_DEPTH = 40
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotPlainYaml(ValueError):
    """The text cannot be used; the message names the line where there is one, and what to do."""


def load(text: str) -> Any:
    """Read one document. Raises NotPlainYaml."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise NotPlainYaml("The file is larger than 1 MiB. A flow is far smaller; this is something else.")
    try:
        _check(text)
        return yaml.load(text, Loader=_OnceLoader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"Line {mark.line + 1}: " if mark else ""
        raise NotPlainYaml(f"{where}{error.problem or error.context}. Correct it, or export the flow anew.") from None
    except (yaml.YAMLError, ValueError) as error:  # a character that YAML has not, or a date that is none
        if isinstance(error, NotPlainYaml):
            raise
        raise NotPlainYaml("The text is not YAML: it holds a character or a value that cannot be read.") from None


def _check(text: str) -> None:
    """Refuse what is not plain before anything is made of it."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=Loader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise NotPlainYaml(f"Line {event.start_mark.line + 1}: write it out, do not refer to it with & and *.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH or number > MOST_PARTS:
            raise NotPlainYaml(f"Line {event.start_mark.line + 1}: the file goes too deep, or has too many parts.")


class _OnceLoader(Loader):  # type: ignore[misc, valid-type]
    """A safe loader that refuses a key that stands twice, where YAML libraries take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(problem="this key stands twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def dump(data: Any) -> str:
    """Write data in its own order, long texts as blocks of lines."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
