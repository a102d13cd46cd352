"""Which models a list of patterns means."""

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.patterns import LONGEST, is_allowed, is_denied, is_pattern, matches

PRESETS = ["@preset/cheap", "openai/gpt-5@preset/cheap", "openrouter/auto", "OpenRouter/Auto"]


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("openai/gpt-5", "openai/gpt-5", True),
        ("openai/gpt-5", "openai/*", True),
        ("openai/gpt-5", "*", True),
        ("openai/gpt-5", "**", True),
        ("openai/gpt-5", "*/gpt-*", True),
        ("openai/gpt-5:free", "*:free", True),
        ("OpenAI/GPT-5", "openai/*", True),
        ("openai/gpt-5", "OPENAI/*", True),
        ("openai/gpt-5", "openai/gpt", False),
        ("openai/gpt-5", "gpt-5", False),
        ("notopenai/gpt-5", "openai/*", False),
        ("openai/gpt-5", "openai/gpt-?", False),
        ("openai/gpt-5", "openai/gpt-[0-9]", False),
        ("openai/gpt.5", "openai/gpt-5", False),
        ("ab", "ab*b", False),
        ("abb", "ab*b", True),
        ("", "*", True),
        ("x", "", False),
    ],
)
def test_a_star_stands_for_anything_and_all_else_for_itself(text, pattern, expected):
    assert matches(text, pattern) is expected


@given(st.text("ab/:", max_size=12), st.text("ab/:*", max_size=8))
def test_patterns_mean_what_a_shell_would_make_of_them(text, pattern):
    assert matches(text, pattern) is fnmatchcase(text, pattern)


def test_a_hostile_pattern_takes_no_time():
    began = time.perf_counter()
    assert not matches("a" * LONGEST, "*a" * 99 + "*b")
    assert not is_denied("a" * LONGEST, ["*a" * 99 + "*b"] * 1_000)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("text", ["openai/*", "*:free", "~openai/gpt-latest", "@preset/x", "*", "a/b"])
def test_these_are_patterns(text):
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text", ["", "gpt-5", "openai/gpt 5", "openai/[ab]", "openai/?", "a/b\n", "a/b\0", "ä/b", "a/" + "b" * LONGEST]
)
def test_these_are_no_patterns(text):
    assert not is_pattern(text)


@pytest.mark.parametrize("suffix", [":nitro", ":floor", ":online", ":nitro:floor"])
def test_another_way_to_an_allowed_model_is_allowed(suffix):
    assert is_allowed("openai/gpt-5" + suffix, ["openai/gpt-5"])


@pytest.mark.parametrize("suffix", [":free", ":extended", ":unheard-of"])
def test_another_model_under_a_suffix_is_not_allowed_with_its_base(suffix):
    assert not is_allowed("openai/gpt-5" + suffix, ["openai/gpt-5"])


@pytest.mark.parametrize("suffix", ["", ":free", ":nitro", ":unheard-of", ":free:nitro"])
def test_whoever_denies_a_model_denies_its_variants(suffix):
    assert is_denied("openai/gpt-5" + suffix, ["openai/gpt-5"])


def test_a_denied_variant_is_denied_however_it_is_reached():
    assert is_denied("openai/gpt-5:free:nitro", ["*:free"])
    assert not is_denied("openai/gpt-5:nitro", ["*:free"])


@pytest.mark.parametrize("model", PRESETS)
def test_a_preset_or_router_is_allowed_by_its_exact_name_only(model):
    assert not is_allowed(model, ["*", "openai/*", "openrouter/*", "@preset/*"])
    assert is_allowed(model, [model])


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        (["openai/*"], True),
        (["*"], True),
        (["~openai/gpt-latest"], True),
        (["openai/gpt-*"], False),
        (["anthropic/*"], False),
    ],
)
def test_an_alias_is_allowed_where_all_of_its_author_is(allow, expected):
    assert is_allowed("~openai/gpt-latest", allow) is expected


@pytest.mark.parametrize(
    ("deny", "expected"),
    [
        (["openai/gpt-5"], True),
        (["~openai/*"], True),
        (["*:free"], True),
        (["*/gpt-5"], True),
        (["anthropic/*"], False),
    ],
)
def test_an_alias_is_denied_where_it_might_mean_a_denied_model(deny, expected):
    assert is_denied("~openai/gpt-latest", deny) is expected
