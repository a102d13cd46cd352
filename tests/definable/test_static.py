"""What the content policy would block never gets written, and pages stay light."""

import re
from pathlib import Path

import brotli
import pytest
from django.conf import settings

BASE = settings.BASE_DIR
TEMPLATES = sorted((BASE / "templates").rglob("*.html"))
DEFINED = set(re.findall(r'<symbol id="([\w-]+)"', (BASE / "static/icons.svg").read_text()))

FORBIDDEN = {
    "style attribute": re.compile(r"<[a-z][^>]*\sstyle\s*=", re.IGNORECASE),
    "style element": re.compile(r"<style[\s>]", re.IGNORECASE),
    "inline script": re.compile(r"<script(?![^>]*\ssrc=)", re.IGNORECASE),
    "event handler": re.compile(r"<[a-z][^>]*\s(on[a-z]+|hx-on[\w:.-]*)\s*=", re.IGNORECASE),
    "javascript value": re.compile(r"[\"']\s*(js|javascript):", re.IGNORECASE),
    "trigger filter": re.compile(r"hx-trigger=[\"'][^\"']*\w\["),
    "other host": re.compile(r"(src|href|action)=[\"'](https?:)?//", re.IGNORECASE),
    "escaping switched off": re.compile(r"\|\s*safe(seq)?\b|autoescape\s+off"),
    "comment over two lines": re.compile(r"\{#(?![^\n]*#\})"),
}
SAMPLES = {
    "style attribute": '<p class="a" style="top:0">',
    "style element": "<style>",
    "inline script": '<script type="module">',
    "event handler": '<a href="/" hx-on:click="go()">',
    "javascript value": "<div hx-vals='js:{a: 1}'>",
    "trigger filter": '<i hx-trigger="click[ctrlKey]">',
    "other host": '<img src="//cdn.example/x.png">',
    "escaping switched off": "{{ text | safe }}",
    "comment over two lines": "{# one\ntwo #}",
}


def sources() -> dict[Path, str]:
    folders = ["accounts", "audit", "definable", "integrations", "personas", "vault"]
    return {path: path.read_text() for folder in folders for path in (BASE / folder).rglob("*.py")}


def compressed(path: str) -> int:
    return len(brotli.compress((BASE / path).read_bytes()))


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_template_never_holds(what):
    assert FORBIDDEN[what].search(SAMPLES[what])
    assert [str(path) for path in TEMPLATES if FORBIDDEN[what].search(path.read_text())] == []


@pytest.mark.requirement("HDR-10")
def test_only_the_markdown_renderer_marks_text_as_safe():
    marking = re.compile(r"\bmark_safe\b|\bSafeString\(|\.safe\(|is_safe\s*=\s*True")
    assert [path.name for path, text in sources().items() if marking.search(text)] == ["markdown.py"]


def test_every_icon_named_in_a_template_is_drawn():
    named = {name for path in TEMPLATES for name in re.findall(r'{% icon "([\w-]+)"', path.read_text())}
    named |= {name for path in TEMPLATES for name in re.findall(r'\bicon="([\w-]+)"', path.read_text())}
    assert named - DEFINED == set()


def test_every_icon_named_in_a_script_is_drawn():
    script = (BASE / "static/js/app.js").read_text()
    icons = re.search(r"THEME_ICONS = \{([^}]+)\}", script)[1]
    assert set(re.findall(r'"([\w-]+)"', icons)) | {"bad", "tick", "close"} <= DEFINED


def test_our_script_makes_no_markup_and_no_code_from_text():
    script = (BASE / "static/js/app.js").read_text()
    assert re.findall(r"\b(eval|Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write)\b", script) == []


def test_the_stylesheet_loads_nothing_from_elsewhere():
    css = "".join(path.read_text() for path in (BASE / "static/css").glob("*.css"))
    assert {url for url in re.findall(r"url\(([^)]+)\)", css) if not url.startswith(('"../fonts/', "#"))} == set()


def test_weights_stay_within_budget():
    for sheet in ("views", "chat"):  # each page loads one of them beside ui.css
        assert compressed("static/css/ui.css") + compressed(f"static/css/{sheet}.css") <= 10 * 1024
    assert compressed("static/js/app.js") <= 6 * 1024
    scripts = ["js/app.js", "vendor/htmx-4.0.1.min.js", "vendor/hx-sse-4.0.1.min.js", "vendor/hx-ptag-4.0.1.min.js"]
    assert sum(compressed(f"static/{script}") for script in scripts) <= 25 * 1024
    fonts = (BASE / "static/fonts").glob("*.woff2")
    assert sum(path.stat().st_size for path in fonts) <= 52 * 1024


@pytest.mark.requirement("HDR-4")
def test_htmx_asks_this_host_only_and_keeps_no_pages_in_the_browser():
    """htmx 4 has no allowEval, allowScriptTags or historyCacheSize: the content policy forbids the first two."""
    head = (BASE / "templates/components/_head.html").read_text()
    config = re.search(r"name=\"htmx-config\" content='([^']+)'", head)[1]
    assert '"includeIndicatorCSS":false' in config
    assert "mode" not in config  # stays at same-origin

    htmx = (BASE / "static/vendor/htmx-4.0.1.min.js").read_text()
    assert 'mode:"same-origin"' in htmx
    assert re.findall(r"\b(localStorage|sessionStorage)\b", htmx) == []
