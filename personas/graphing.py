"""
The stages of a flow as a picture: one row each, in their order, and beside them lines from what uses what.

Pure arithmetic over stages as a version keeps them, or as the forms of the builder show them; half-written ones too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personas import template

ROW = 40  # of the picture's own units, of which 16 are one rem
LANE, ROOM = 12, 132  # between two lines that stand side by side; for all of them together
EDGE = 14  # from the rows to the nearest line
ROUND = 6  # of the corners
APART = 6  # where lines leave a row, below its middle, and where they arrive, above it
TEXTS = ("over", "template", "text", "arguments")


@dataclass(frozen=True, slots=True)
class Link:
    """The stage at `target` needs the one at `source`: its text (`uses`), or as a condition (`when`, `failed`)."""

    source: int
    target: int
    kind: str


@dataclass(frozen=True, slots=True)
class Line:
    """A link as it is drawn: the data of an SVG path, and the points of the head of its arrow."""

    kind: str
    path: str
    head: str


@dataclass(frozen=True, slots=True)
class Graph:
    """
    The names of the stages, one a row, the lines between them, and the size of their picture in units.

    `astray` says in words which conditions look at no earlier stage.
    """

    names: list[str]
    links: list[Link]
    lines: list[Line]
    astray: list[str]
    width: int
    height: int

    @property
    def rem(self) -> tuple[str, str]:
        """The size as SVG attributes say it, so that it grows with the text of the rows."""
        return f"{self.width / 16:g}rem", f"{self.height / 16:g}rem"

    @property
    def kinds(self) -> set[str]:
        return {link.kind for link in self.links}


def uses(stage: Mapping[str, Any]) -> list[str]:
    """What the texts of a stage refer to, in words: names of stages as they are, inputs as such. Each once."""
    return [_in_words(name) for name in _references(stage) if name != template.ITEM]


def draw(stages: Sequence[Mapping[str, Any]]) -> Graph:
    """Draw stages in their order."""
    links = sorted(_links(stages), key=lambda link: (link.target - link.source, link.source))
    lanes = _lanes(links)
    most = max(lanes, default=-1) + 1
    step = min(LANE, ROOM / max(most, 1))
    width = round(EDGE + step * most) + 2
    lines = [_line(link, width - EDGE - step * lane, width) for link, lane in zip(links, lanes, strict=True)]
    names = [str(stage.get("name") or "") for stage in stages]
    return Graph(names, links, lines, list(_astray(stages, names)), width, ROW * len(stages))


# --- what needs what --------------------------------------------------------------------


def _links(stages: Sequence[Mapping[str, Any]]) -> Iterator[Link]:
    """Links to earlier stages only: nothing else can be referred to."""
    places: dict[str, int] = {}
    for target, stage in enumerate(stages):
        names = (_stage_in(reference) for reference in _references(stage))
        yield from (Link(places[name], target, "uses") for name in names if name in places)
        name, test = _condition(stage)
        if name in places:
            yield Link(places[name], target, "failed" if test == "failed" else "when")
        places.setdefault(str(stage.get("name") or ""), target)


def _astray(stages: Sequence[Mapping[str, Any]], names: list[str]) -> Iterator[str]:
    for place, stage in enumerate(stages):
        looked_at, _ = _condition(stage)
        if looked_at and looked_at not in names[:place]:
            yield f"The condition of stage {place + 1} looks at “{looked_at}”, and no stage before it has that name."


def _references(stage: Mapping[str, Any]) -> list[str]:
    does = stage.get("do") if isinstance(stage.get("do"), Mapping) else {}
    texts = [text for part in (stage, does) for field in TEXTS for text in _strings(part.get(field))]
    return list(dict.fromkeys(name for text in texts for name in template.references(text)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)


def _condition(stage: Mapping[str, Any]) -> tuple[str, str]:
    """The stage that a condition looks at, and for what; as a version keeps them or as a form shows them."""
    when = stage.get("when") or {}
    named = when.get("stage") or (stage.get("when_stage") if stage.get("when_test") else "")
    return str(named or ""), str(when.get("is") or stage.get("when_test") or "")


def _stage_in(reference: str) -> str:
    return reference.removeprefix("stage.").removesuffix(".output") if reference.startswith("stage.") else ""


def _in_words(reference: str) -> str:
    return _stage_in(reference) or reference.replace(".", " ")


# --- where lines stand ------------------------------------------------------------------


def _lanes(links: Sequence[Link]) -> list[int]:
    """A lane for each link, the nearest in which no other one stands beside it."""
    taken: list[list[Link]] = []
    found = []
    for link in links:
        free = (place for place, others in enumerate(taken) if not any(_meet(link, other) for other in others))
        place = next(free, len(taken))
        if place == len(taken):
            taken.append([])
        taken[place].append(link)
        found.append(place)
    return found


def _meet(one: Link, other: Link) -> bool:
    return one.source < other.target and other.source < one.target


def _line(link: Link, x: float, edge: int) -> Line:
    """Out of the row of its source, along its lane, into the row of its target."""
    top, end = _middle(link.source) + APART, _middle(link.target) - APART
    path = f"M{edge} {top}H{x + ROUND:g}Q{x:g} {top} {x:g} {top + ROUND}V{end - ROUND}Q{x:g} {end} {x + ROUND:g} {end}"
    head = f"{edge},{end} {edge - 6},{end - 4} {edge - 6},{end + 4}"
    return Line(link.kind, f"{path}H{edge - 5}", head)


def _middle(place: int) -> int:
    return ROW * place + ROW // 2
