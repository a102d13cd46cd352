"""The next times of a rule as people read them: in its zone and in theirs, with what changing clocks do to them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from personas import timing


@dataclass(frozen=True, slots=True)
class Time:
    """One time of a rule: the moment, how clocks in its zone show it, and a word on a change of clocks."""

    at: datetime
    there: str
    note: str


def next_times(rule: timing.Rule, after: datetime, count: int = 6) -> list[Time]:
    """Return up to `count` times. Raises BadRule, Over when there is none."""
    instants = [rule.next(after), *rule.next_few(after, count)[1:]]
    return list(noted(rule, instants, after))


def noted(rule: timing.Rule, instants: Iterable[datetime], after: datetime) -> Iterator[Time]:
    """Write down instants of a rule, which follow one another, each beside the one before."""
    zone, before = timing.zone(rule.zone), after
    for at in instants:
        yield Time(at, _there(at, zone), _note(rule, at, before, zone))
        before = at


def _there(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y %H:%M}{'' if local.second == 0 else f'{local:%S}'} {local:%Z}"


def _note(rule: timing.Rule, at: datetime, before: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    if not rule.names(local):
        return f"Clocks go forward over the time it names, so it fires at {local:%H:%M}."
    if rule.kind == timing.CRON and _comes_twice(local):
        which = "second" if local.fold else "first"
        return f"Clocks go back: {local:%H:%M} comes twice, this is the {which}."
    if rule.kind == timing.CRON and local.utcoffset() != before.astimezone(zone).utcoffset():
        return f"Clocks have changed: {_shift(local, before.astimezone(zone))}."
    return ""


def _comes_twice(local: datetime) -> bool:
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _shift(local: datetime, before: datetime) -> str:
    gone = (local.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
    minutes = abs(gone) // timedelta(minutes=1)
    amount = f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
    return f"{amount} {'earlier' if gone > timedelta() else 'later'} by UTC than before"
