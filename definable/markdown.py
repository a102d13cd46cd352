"""
A model's Markdown as HTML. The one place where text from outside becomes markup.

Raw HTML in the text is shown as text, images are shown as links, and a link leads only to
http(s) and shows the host it leads to. What markdown-it makes is cleaned once more by nh3
against a list of elements, so that a fault in either of the two is not enough.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import nh3
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

TAGS = {
    "a", "bdi", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
SCHEMES = {"http", "https"}
REL = "noopener noreferrer nofollow"
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")  # other alphabets arrive as xn--…
MAX_CHARS = 100_000  # parsing is linear, but a page must not wait seconds for it


def host_of(url: str) -> str | None:
    """Return the host a link leads to, or None when it must not be a link."""
    # Browsers drop control characters and read "\" as "/"; nobody writes either by accident.
    if any(character <= " " or character == "\\" for character in url):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        return None
    if parts.scheme.lower() not in SCHEMES or parts.username is not None or parts.password is not None:
        return None
    return host if host and HOST.fullmatch(host) else None


class _Renderer(RendererHTML):
    """Writes links with their host and images as links."""

    def link_open(self, tokens: Sequence[Token], idx: int, options, env) -> str:
        return _link_start(str(tokens[idx].attrGet("href") or ""))

    def link_close(self, tokens: Sequence[Token], idx: int, options, env) -> str:
        return _link_end(_opening(tokens, idx))

    def image(self, tokens: Sequence[Token], idx: int, options, env) -> str:
        token = tokens[idx]
        address = str(token.attrGet("src") or "")
        text = nh3.clean_text(self.renderInlineAsText(token.children or [], options, env) or "image")
        return _link_start(address) + text + _link_end(address)


def _opening(tokens: Sequence[Token], closing: int) -> str:
    """Return the address of the link that ends at `closing`; links do not nest."""
    opening = next(at for at in range(closing, -1, -1) if tokens[at].type == "link_open")
    return str(tokens[opening].attrGet("href") or "")


def _link_start(address: str) -> str:
    return f'<a href="{nh3.clean_text(address)}">' if host_of(address) else ""


def _link_end(address: str) -> str:
    """Close a link and say, after it, where it leads; bdi keeps the text around from turning that round."""
    host = host_of(address)
    return f"</a> <bdi>({nh3.clean_text(host)})</bdi>" if host else ""


def _keep(tag: str, attribute: str, value: str) -> str | None:
    """Decide over one attribute: only good addresses survive, and the rel that nh3 adds itself."""
    if (tag, attribute) == ("a", "rel"):
        return value if value == REL else None
    return value if (tag, attribute) == ("a", "href") and host_of(value) else None


def _settle_headings(state: StateCore) -> None:
    """Make headings fit under a page's own: the first is h3, and none skips a level."""
    before = 2
    for token in state.tokens:
        if token.type == "heading_open":
            before = min(int(token.tag[1]) + 2, before + 1, 6)
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{before}"


def _parser() -> MarkdownIt:
    # "commonmark" without html; addresses in running text stay text: nobody asked for a link.
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    parser.core.ruler.push("settle_headings", _settle_headings)
    parser.validateLink = lambda url: host_of(url) is not None
    return parser


_markdown = _parser()


def render_markdown(text: str, *, code_button: SafeString | None = None) -> SafeString:
    """
    Return safe HTML for a model's Markdown. Past 100,000 characters it is shown as it was written.

    With `code_button`, our own markup, each block of code gets it; it and each table can be scrolled by keyboard.
    """
    if len(text) > MAX_CHARS:
        return format_html("<pre>{}</pre>", text)
    cleaned = nh3.clean(
        _markdown.render(text.replace("\x00", "\ufffd")),
        tags=TAGS,
        attributes={"a": {"href"}},
        attribute_filter=_keep,
        url_schemes=SCHEMES,
        link_rel=REL,
    )
    if code_button:
        # What is cleaned says "<pre><code>" for blocks of code alone, and so on: in text it is "&lt;pre&gt;…".
        cleaned = cleaned.replace("<table>", '<table tabindex="0">')
        cleaned = cleaned.replace("<pre><code>", '<div class="code"><pre tabindex="0"><code>')
        cleaned = cleaned.replace("</code></pre>", f"</code></pre>{conditional_escape(code_button)}</div>")
    return mark_safe(cleaned)  # noqa: S308  (the reviewed renderer)


# --- where blocks begin -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A block at the top of a text. Places are in characters; `last_item` is for lists, `markup` for fences."""

    kind: str
    start: int
    last_item: int = 0
    markup: str = ""


_outline = MarkdownIt("commonmark", {"html": False}).enable("table")
_outline.core.ruler.enableOnly(["normalize", "block"])


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a Markdown text whose lines end in \\n, without looking into them."""
    lines = _starts_of_lines(text)
    blocks: list[Block] = []
    for token in _outline.parse(text):
        if not token.map or token.nesting < 0:
            continue
        start = lines[token.map[0]]
        if token.level == 0:
            blocks.append(Block(token.type.removesuffix("_open"), start, markup=token.markup))
        elif token.level == 1 and token.type == "list_item_open":
            blocks[-1] = replace(blocks[-1], last_item=start)
    return blocks


def _starts_of_lines(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]
