"""What a change of a grant means, in sentences: shown before it is applied, and kept in the log. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from integrations.scopes import Rule, Scopes, ToolScope

MOST_NAMED = 6  # of one kind in one sentence; the rest is counted

Around = tuple[str, str]  # what a sentence says before and after the names of the tools it is about

NOTHING = Scopes()
OFF = ToolScope(rule=Rule.OFF)


def describe(before: Scopes | None, after: Scopes | None, *, name: str, titles: Mapping[str, str]) -> list[str]:
    """
    Return what changes for a holder called `name`: gains, then losses, then limits. None is no grant.

    `titles` holds the tools' titles by their names. Nothing changes: no sentences.
    """
    if before is None and after is None:
        return []
    if after is None:
        return [f"{name} may no longer use this connection at all."]
    old, new = before or NOTHING, after
    said = [*_rules(old, new, name, titles), *_tool_limits(old, new, titles), *_wide(old, new)]
    if before is None and not said:
        return [f"{name} gets a grant for this connection, with every tool off."]
    return said


def summary(scopes: Scopes | None, *, name: str, titles: Mapping[str, str]) -> list[str]:
    """Return what a grant says, for the log."""
    return describe(None, scopes, name=name, titles=titles) or [f"{name} has no grant for this connection."]


# --- what each tool may do ----------------------------------------------------------------

RULES: dict[tuple[Rule, Rule], Around] = {
    (Rule.OFF, Rule.ALLOWED): ("may now use", " without asking."),
    (Rule.ASK, Rule.ALLOWED): ("no longer has to ask before it uses", "."),
    (Rule.OFF, Rule.ASK): ("may now use", ", after asking a person."),
    (Rule.ALLOWED, Rule.ASK): ("must now ask a person before it uses", "."),
    (Rule.ASK, Rule.OFF): ("may no longer use", ", not even after asking."),
    (Rule.ALLOWED, Rule.OFF): ("may no longer use", "."),
}


def _rules(old: Scopes, new: Scopes, name: str, titles: Mapping[str, str]) -> Iterator[str]:
    changed: dict[tuple[Rule, Rule], list[str]] = {}
    for tool in _in_order(old, new, titles):
        changed.setdefault((old.rule_of(tool), new.rule_of(tool)), []).append(titles.get(tool, tool))
    for change, (first, last) in RULES.items():
        if change in changed:
            yield f"{name} {first} {listed(changed[change])}{last}"


def _in_order(old: Scopes, new: Scopes, titles: Mapping[str, str]) -> list[str]:
    named = {*old.tools, *new.tools}
    return [tool for tool in titles if tool in named] + sorted(named - titles.keys())


def _tool_limits(old: Scopes, new: Scopes, titles: Mapping[str, str]) -> Iterator[str]:
    """Sentences on limits; of tools that stay off there are none. Tools with one change share a sentence."""
    by_change: dict[Around, list[str]] = {}
    for tool in _in_order(old, new, titles):
        if new.rule_of(tool) is not Rule.OFF:
            for words in _limits(old.tools.get(tool, OFF), new.tools[tool]):
                by_change.setdefault(words, []).append(titles.get(tool, tool))
    for (first, last), tools in by_change.items():
        yield f"{first} {listed(tools)}{last}"


def _limits(old: ToolScope, new: ToolScope) -> Iterator[Around]:
    if old.unattended != new.unattended:
        yield ("Schedules may now use" if new.unattended else "Schedules may not use"), "."
    if old.after_untrusted != new.after_untrusted:
        yield ("Text of strangers no longer makes" if new.after_untrusted else "Text of strangers makes"), " ask first."
    if old.max_tokens != new.max_tokens:
        yield "Answers of", _cap(new.max_tokens, "tokens")
    if old.max_messages != new.max_messages:
        yield "Conversations of", _cap(new.max_messages, "messages")
    yield from _pins(old.pinned, new.pinned)


def _cap(cap: int | None, what: str) -> str:
    if cap is None:
        return " may be as long as the tool itself allows."
    return f" may have at most {cap:,} {what if cap > 1 else what[:-1]}."


def _pins(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Around]:
    fixed = [name for name in new if name not in old]
    changed = [name for name in new if name in old and old[name] != new[name]]
    freed = [name for name in old if name not in new]
    for names, words in ((fixed, "now fixed"), (changed, "fixed to another value"), (freed, "no longer fixed")):
        if names:
            yield "In", f", {listed(sorted(names))} {'is' if len(names) == 1 else 'are'} {words}."


# --- what holds for the whole grant -------------------------------------------------------


def _wide(old: Scopes, new: Scopes) -> Iterator[str]:
    yield from _allowed("Models", "asked", old.models.allow, new.models.allow)
    yield from _denied("Models", "asked", old.models.deny, new.models.deny)
    yield from _allowed("Providers", "used", old.providers.allow, new.providers.allow)
    yield from _denied("Providers", "used", old.providers.deny, new.providers.deny)
    yield from _times(old, new)
    if old.approvers != new.approvers:
        yield _approvers(len(new.approvers))


def _allowed(what: str, done: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    if set(old) == set(new):
        return
    if not new:
        yield f"{what} are no longer limited to {listed(old)}."
    elif not old:
        yield f"Only {what.lower()} like {listed(new)} may be {done}."
    else:
        yield from _each(new, old, lambda gained: f"{what} like {gained} may now be {done} too.")
        yield from _each(old, new, lambda lost: f"{what} like {lost} are no longer among those allowed.")


def _denied(what: str, done: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    yield from _each(old, new, lambda freed: f"{what} like {freed} are no longer forbidden.")
    yield from _each(new, old, lambda lost: f"{what} like {lost} may not be {done}.")


def _each(these: Iterable[str], without: Sequence[str], words: Callable[[str], str]) -> Iterator[str]:
    left = [name for name in these if name not in without]
    if left:
        yield words(listed(left))


def _times(old: Scopes, new: Scopes) -> Iterator[str]:
    if old.ends_at != new.ends_at:
        yield f"The grant ends on {new.ends_at:%-d %b %Y at %H:%M %Z}." if new.ends_at else "The grant has no end."
    if (old.one_run, old.only_run) == (new.one_run, new.only_run):
        return
    if new.only_run is not None:
        yield "The grant serves one run alone, which is known already."
    elif new.one_run:
        yield "The grant serves the next run that uses it, and no other."
    else:
        yield "The grant is no longer for one run."


def _approvers(count: int) -> str:
    if not count:
        return "Everybody with the right to decide may allow what asks first."
    return f"Only {count} named {'member' if count == 1 else 'members'} may allow what asks first."


def listed(names: Sequence[str]) -> str:
    """Write a list as people do: "a, b and c"; a long one is cut and counted."""
    shown = list(names)
    if len(shown) > MOST_NAMED:
        shown = [*shown[: MOST_NAMED - 1], f"{len(shown) - MOST_NAMED + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
