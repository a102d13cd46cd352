"""The messages of a chat as a tree: which of them one branch shows. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from personas.chat.shown import Siblings


@dataclass(frozen=True, slots=True)
class Node:
    """Where one message stands."""

    id: UUID
    parent_id: UUID | None
    compared_with: UUID | None = None


class Tree:
    """Messages by their parents. They are given in the order in which they were made."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.children: dict[UUID | None, list[UUID]] = {}
        for node in self.nodes.values():
            self.children.setdefault(node.parent_id, []).append(node.id)

    def path(self, place: UUID | None, *, ends: bool = False) -> list[UUID]:
        """
        Return the branch through a message, from its first message to the newest one after `place`.

        With `ends`, to `place` itself. Without a place, or with one that is not of this chat, the
        branch of the newest message.
        """
        known = place in self.nodes
        place = place if known else next(reversed(self.nodes), None)
        after = [] if place is None or (ends and known) else self._down(place)
        return [*self._up(place), *after]

    def _up(self, place: UUID | None) -> list[UUID]:
        found = []
        while place in self.nodes:
            found.append(place)
            place = self.nodes[place].parent_id
        return found[::-1]

    def _down(self, place: UUID) -> list[UUID]:
        found = []
        while after := self.children.get(place):
            place = after[-1]
            found.append(place)
        return found

    def siblings(self, id: UUID) -> Siblings:
        """Return which of its parent's children a message is."""
        row = self.children[self.nodes[id].parent_id]
        at = row.index(id)
        return Siblings(at + 1, len(row), row[at - 1] if at else None, row[at + 1] if at + 1 < len(row) else None)

    def compared(self, id: UUID) -> list[UUID]:
        """Return the answers that were asked for together with this one, itself among them; empty when it is alone."""
        node = self.nodes[id]
        if node.compared_with is None:
            return []
        row = self.children[node.parent_id]
        return [each for each in row if self.nodes[each].compared_with == node.compared_with]
