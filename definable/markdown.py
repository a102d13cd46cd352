"""
A model's Markdown as HTML. The one place where text from outside becomes markup.

Raw HTML in the text is shown as text, images are shown as links, and a link leads only to
http(s) and shows the host it leads to. What markdown-it makes is cleaned once more by nh3
against a list of elements, so that a fault in either of the two is not enough.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import nh3
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
MAX_CHARS = 400_000


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
    if parts.scheme.lower() not in SCHEMES or not host or parts.username is not None or parts.password is not None:
        return None
    return host


class _Renderer(RendererHTML):
    """Writes links with their host and images as links."""

    def link_close(self, tokens: Sequence[Token], idx: int, options, env) -> str:
        return f"</a>{_host_label(_opening(tokens, idx))}"

    def image(self, tokens: Sequence[Token], idx: int, options, env) -> str:
        token = tokens[idx]
        address = str(token.attrGet("src") or "")
        text = nh3.clean_text(self.renderInlineAsText(token.children or [], options, env) or "image")
        return f'<a href="{nh3.clean_text(address)}">{text}</a>{_host_label(address)}'


def _opening(tokens: Sequence[Token], closing: int) -> str:
    """Return the address of the link that ends at `closing`; links do not nest."""
    opens = (token for token in reversed(tokens[:closing]) if token.type == "link_open")
    return str(next(opens).attrGet("href") or "")


def _host_label(address: str) -> str:
    host = host_of(address)
    return f" <bdi>({nh3.clean_text(host)})</bdi>" if host else ""


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


def render_markdown(text: str) -> SafeString:
    """Return safe HTML for a model's Markdown. Text past 400,000 characters is cut, and says so."""
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS] + "\n\n(The rest is too long to show.)"
    cleaned = nh3.clean(
        _markdown.render(text.replace("\x00", "\ufffd")),
        tags=TAGS,
        attributes={"a": {"href"}},
        attribute_filter=_keep,
        url_schemes=SCHEMES,
        link_rel=REL,
    )
    return mark_safe(cleaned)  # noqa: S308  (the reviewed renderer)
