"""Every colour pair of the stylesheet can be read, in both themes (WCAG 2.2: 4.5 for text, 3 for shapes)."""

import re

import pytest
from django.conf import settings

TOKEN = re.compile(r"--([\w-]+):\s*light-dark\((#[0-9A-Fa-f]{6}),\s*(#[0-9A-Fa-f]{6})\)")
TONES = ["ok", "warn", "bad", "info", "idle"]
PAGE = ["bg", "surface", "surface-2", "rail", "hover", "select"]
TILES = [f"chart-{number}" for number in range(1, 9)]

TEXT = [(ink, ground) for ink in ("text", "text-2", "text-3", "link") for ground in PAGE]
TEXT += [(f"{tone}-text", ground) for tone in TONES for ground in [f"{tone}-bg", *PAGE]]
TEXT += [("primary-text", "primary"), ("primary-text", "primary-hover"), ("accent-text", "accent")]
TEXT += [("danger-text", "danger"), ("danger-text", "danger-hover"), ("tooltip-text", "tooltip")]
TEXT += [("surface", tile) for tile in TILES]  # initials
TEXT += [("accent", "rail")]  # numbers of the dictionary entry

SHAPES = [("focus", ground) for ground in PAGE]
SHAPES += [("line-strong", ground) for ground in ("bg", "surface", "surface-2", "rail")]
SHAPES += [(f"{tone}-solid", ground) for tone in TONES for ground in ("bg", "surface", "surface-2", "rail")]
SHAPES += [(chart, ground) for chart in TILES[:5] for ground in ("bg", "surface")]
SHAPES += [("primary", "bg"), ("danger", "bg"), ("accent", "bg"), ("accent", "idle-bg")]


def tokens() -> dict[str, tuple[str, str]]:
    css = (settings.BASE_DIR / "static/css/ui.css").read_text()
    return {name: (light, dark) for name, light, dark in TOKEN.findall(css)}


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ratio(one: str, other: str) -> float:
    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def too_weak(pairs: list[tuple[str, str]], theme: int, need: float) -> dict[tuple[str, str], float]:
    known = tokens()
    found = {(ink, ground): ratio(known[ink][theme], known[ground][theme]) for ink, ground in pairs}
    return {pair: round(value, 2) for pair, value in found.items() if value < need}


def test_contrast_of_black_on_white_is_21():
    assert round(ratio("#000000", "#FFFFFF"), 2) == 21


def test_the_contrast_guard_sees_a_planted_pair():
    assert too_weak([("line", "bg")], 0, 4.5).keys() == {("line", "bg")}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_on_every_ground_it_stands_on(theme):
    assert too_weak(TEXT, theme, 4.5) == {}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_shapes_and_edges_can_be_seen(theme):
    assert too_weak(SHAPES, theme, 3) == {}


def test_colours_are_written_as_tokens_only():
    sheets = (settings.BASE_DIR / "static/css").glob("*.css")
    css = "".join(sheet.read_text() for sheet in sheets)
    outside = re.sub(r"@layer tokens \{.*?\n\}\n", "", css, flags=re.DOTALL)
    shades = [colour for colour in re.findall(r"#[0-9A-Fa-f]{3,8}\b", outside) if not colour.isalpha()]
    assert shades == []
