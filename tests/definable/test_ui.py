from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django import forms
from django.utils import timezone

from definable.templatetags import ui
from integrations.models import Call, Connection
from personas.models import Firing, Run, StageRun
from tests.definable.test_static import DEFINED

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "not reported"),
        ("0", "$0.00"),
        ("0.000000000000", "$0.00"),
        ("0.0112", "$0.0112"),
        ("0.00149000", "$0.00149"),
        ("0.5", "$0.50"),
        ("0.000001", "$0.000001"),
        ("0.0000009999", "<$0.000001"),
        ("0.000000000001", "<$0.000001"),
        ("1E-9", "<$0.000001"),
        ("0.9999999", "$1.00"),
        ("1", "$1.00"),
        ("54.199", "$54.20"),
        ("1234567.891", "$1,234,567.89"),
        ("1E+3", "$1,000.00"),
        ("-0.0112", "−$0.0112"),
        ("-3.5", "−$3.50"),
    ],
)
def test_usd_shows_cents_from_a_dollar_and_six_decimals_below(amount, text):
    assert ui.usd(None if amount is None else Decimal(amount)) == text


def test_usd_exact_keeps_every_decimal_beside_the_rounded_one():
    html = ui.usd_exact(Decimal("1.234567890120"))
    assert html == '<span data-value="1.23456789012" title="$1.23456789012 exactly">$1.23</span>'
    assert ui.usd_exact(None) == "not reported"


@pytest.mark.parametrize(
    ("number", "text"), [(None, "not reported"), (0, "0"), (3412, "3,412"), (10**9, "1,000,000,000")]
)
def test_grouped_numbers_never_show_unknown_as_zero(number, text):
    assert ui.grouped(number) == text


@pytest.mark.parametrize(("number", "text"), [(None, "not reported"), (1, "1 token"), (19736, "19,736 tokens")])
def test_tokens_are_exact(number, text):
    assert ui.tokens(number) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, "not reported"), (0, "0%"), (1, "100%"), (Decimal("0.1284"), "12.8%"), (0.061, "6.1%")]
)
def test_percent_has_one_decimal_at_most(ratio, text):
    assert ui.percent(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not reported"),
        (0, "0.0 s"),
        (0.01, "<0.1 s"),
        (0.4, "0.4 s"),
        (12.41, "12.4 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (125, "2 min 05 s"),
        (4320, "1 h 12 min"),
        (timedelta(minutes=2, seconds=5), "2 min 05 s"),
    ],
)
def test_durations(seconds, text):
    assert ui.duration(seconds) == text


def test_duration_ms_is_the_same_in_thousandths():
    assert (ui.duration_ms(640), ui.duration_ms(None)) == ("0.6 s", "not reported")


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=20), "14:29, now"),
        (timedelta(minutes=5), "14:25, 5 min ago"),
        (timedelta(hours=3), "11:30, 3 h ago"),
        (timedelta(hours=23, minutes=59), "14:31, 23 h ago"),
        (timedelta(hours=24), "21 Nov 14:30"),
        (timedelta(days=60), "23 Sep 15:30"),  # summer time then
        (timedelta(days=365), "22 Nov 2025"),
        (timedelta(minutes=-33), "15:03, in 33 min"),
        (timedelta(days=-5), "27 Nov 14:30"),
    ],
)
def test_a_moment_is_written_finer_the_nearer_it_is(age, text):
    assert ui.when_text(NOW - age, NOW, BERLIN) == text


def test_when_keeps_the_full_time_in_both_zones():
    with timezone.override(BERLIN):
        html = ui.when(datetime(2020, 7, 1, 23, 5, 9, tzinfo=UTC))
    title = "2 Jul 2020 01:05:09 Europe/Berlin, 1 Jul 2020 23:05:09 UTC"
    assert html == f'<time datetime="2020-07-01T23:05:09Z" title="{title}">2 Jul 2020</time>'
    assert (ui.when(None), ui.when(None, "not yet")) == ("never", "not yet")


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Contract Reader", "CR"),
        ("one two three", "OT"),
        ("solo", "SO"),
        ("x", "X"),
        ("", "?"),
        ("ada@example.test", "AD"),
    ],
)
def test_initials(name, letters):
    assert ui.initials(name) == letters


def test_a_seal_keeps_its_colour_and_escapes_its_letters():
    assert ui.seal("Contract Reader") == ui.seal("Contract Reader")
    assert ui.seal("Demo owner", "s") == '<span class="seal seal-s c7" aria-hidden="true">DO</span>'
    assert "<b" not in ui.seal("<b> &amp;")
    assert {ui.seal(f"name {number}").split('"')[1] for number in range(200)} == {f"seal c{n}" for n in range(1, 9)}


def test_every_state_a_row_can_have_has_its_word_and_shape():
    rows = [Run.State, StageRun.State, Call.State, Connection.State, Firing.Outcome]
    assert [value for states in rows for value in states.values if value not in ui.STATES] == []
    assert {state.icon for state in ui.STATES.values()} - DEFINED == set()


@pytest.mark.parametrize(
    ("key", "word", "icon", "tone"),
    [
        ("queued", "Queued", "queue", "idle"),
        ("running", "Running", "ring", "info"),
        ("succeeded", "Succeeded", "ok", "ok"),
        ("fallback", "Used fallback", "swap", "warn"),
        ("approval", "Waiting for approval", "clock", "warn"),
        ("failed", "Failed", "bad", "bad"),
        ("stopped", "Stopped", "stop", "idle"),
        ("skipped", "Skipped", "dash", "idle"),
        ("blocked", "Blocked", "block", "bad"),
        ("paused", "Paused", "pause", "idle"),
        ("missed", "Missed", "missed", "warn"),
        ("withdrawn", "Withdrawn by provider", "block", "idle"),
        ("made_up", "Made up", "info", "idle"),
    ],
)
def test_a_state_is_a_word_a_shape_and_a_colour(key, word, icon, tone):
    html = ui.state(key)
    assert html.startswith(f'<span class="state t-{tone}"><svg class="ico')
    assert f"#{icon}" in html
    assert html.endswith(f"</svg>{word}</span>")
    assert ui.badge(key).startswith(f'<span class="badge is-{tone}">')


def test_a_state_can_be_worded_otherwise_but_not_marked_up():
    assert ui.state("done", "Done <b>").endswith("Done &lt;b&gt;</span>")


def test_json_pretty_is_plain_text_that_shows_what_hides():
    text = ui.json_pretty({"a": "\u202eevil\u200b", "b": "<script>", "n": Decimal("1.5"), "ü": None})
    assert text == '{\n  "a": "\\u202eevil\\u200b",\n  "b": "<script>",\n  "n": "1.5",\n  "ü": null\n}'
    assert not hasattr(text, "__html__")


class Sample(forms.Form):
    name = forms.CharField(widget=forms.TextInput(attrs={"class": "mono"}))
    about = forms.CharField(widget=forms.Textarea)
    zone = forms.ChoiceField(choices=[("UTC", "UTC")])
    sure = forms.BooleanField()


def test_controls_are_dressed_for_their_kind():
    form = Sample()
    assert 'class="input mono"' in ui.control(form["name"])
    assert 'class="input"' in ui.control(form["about"])
    assert 'class="select"' in ui.control(form["zone"])
    assert "class=" not in ui.control(form["sure"])
