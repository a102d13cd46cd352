"""
An answer that grows, as HTML that grows.

What a block of Markdown looks like depends on its end, so the last one is drawn again and again until
another follows. Those before it are drawn once: a long answer costs what it is long. A last block
that grows long itself is cut where that can hardly be seen, and else drawn the less often. What is
too long to be drawn as Markdown when it is finished is not drawn as Markdown before.
"""

import re
import time
from collections.abc import Callable

from django.utils.html import format_html

from definable.markdown import MAX_CHARS, Block, blocks_of
from definable.streams import partial

LONG = 3_000  # characters of a block that is cut
AT_ONCE = 20_000  # characters that are drawn together, as long as blocks end somewhere
FASTEST = 0.1  # seconds between two drawings
PER_SECOND = 40_000  # characters of a last block that are sent, however often it grows
SHARE = 0.1  # of a processor's time that one answer may take

LINE_END = re.compile(r"\r\n|\r")

Draw = Callable[[str], str]


class Growing:
    """One answer on one page. `place` is the id of the element that holds all of it."""

    def __init__(self, place: str, draw: Draw) -> None:
        self.place, self._end, self._draw = place, f"{place}-tail", draw
        self._taken = 0
        self._tail = ""
        self._begun = False
        self.due_at = 0.0  # when it may be drawn again, on the monotonic clock

    def left(self, said: str) -> int:
        """Return how many characters would have to be drawn; 0 when there is nothing new."""
        return len(self._tail) + len(said) - self._taken if len(said) > self._taken else 0

    def grow(self, said: str) -> str:
        """Return the order that makes the page show all that was said."""
        began = time.perf_counter()
        text = self._tail + self._more(said)
        drawn, self._tail = self._plain(text) if self._taken > MAX_CHARS else self._marked(text)
        first, self._begun = not self._begun, True
        took = time.perf_counter() - began
        self.due_at = time.monotonic() + max(FASTEST, len(self._tail) / PER_SECOND, took / SHARE)
        target, swap = (self.place, "innerHTML") if first else (self._end, "outerHTML")
        return partial(f"#{target}", swap, drawn)

    def _more(self, said: str) -> str:
        # Half of a line end waits for its other half.
        end = len(said) - said.endswith("\r")
        more, self._taken = said[self._taken : end], end
        return LINE_END.sub("\n", more)

    def _marked(self, text: str) -> tuple[str, str]:
        done, tail = cut(text)
        drawn = "".join(self._draw(piece) for piece in pieces(done))
        return f'{drawn}<div class="tail" id="{self._end}">{self._draw(tail)}</div>', tail

    def _plain(self, text: str) -> tuple[str, str]:
        done, end, tail = text.rpartition("\n")
        return format_html('<pre>{}</pre><div class="tail" id="{}">{}</div>', done + end, self._end, tail), tail


def cut(text: str) -> tuple[str, str]:
    """Divide a text that may go on into what will look the same for ever, and the rest."""
    blocks = blocks_of(text)
    if not blocks:
        return "", text
    last = blocks[-1]
    done, tail = text[: last.start], text[last.start :]
    if len(tail) <= LONG:
        return done, tail
    more, tail = _cut_long(tail, last)
    return done + more, tail


def _cut_long(text: str, block: Block) -> tuple[str, str]:
    """Divide one long block: code after a line, a list of points before its last one."""
    if block.kind == "fence":
        opening, _, body = text.partition("\n")
        lines, end, rest = body.rpartition("\n")
        return (f"{opening}\n{lines}\n{block.markup}\n", f"{opening}\n{rest}") if end else ("", text)
    if block.kind == "bullet_list" and block.last_item > block.start:
        at = block.last_item - block.start
        return text[:at], text[at:]
    return "", text


def pieces(text: str) -> list[str]:
    """Divide a finished text between blocks, so that none is much longer than what is drawn at once."""
    if len(text) <= AT_ONCE:
        return [text] if text else []
    starts = [0]
    for block in blocks_of(text):
        if block.start - starts[-1] > AT_ONCE:
            starts.append(block.start)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
