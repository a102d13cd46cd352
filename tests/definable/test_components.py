"""The parts that pages are made of, rendered."""

import pytest
from django import forms
from django.contrib.messages import constants
from django.contrib.messages.storage.base import Message
from django.template.loader import render_to_string
from django.test import RequestFactory

from definable.fragments import render_fragment, toast, wants_fragment
from definable.theme import theme
from tests.definable.test_markdown import Elements


class Sample(forms.Form):
    email = forms.EmailField(help_text="Where the link goes.")
    note = forms.CharField(required=False)
    role = forms.ChoiceField(choices=[("a", "Admin"), ("b", "Builder")], widget=forms.RadioSelect)
    tools = forms.MultipleChoiceField(choices=[("x", "<b>x</b>")], widget=forms.CheckboxSelectMultiple)
    sure = forms.BooleanField(label="I am sure", help_text="Think twice.")

    def clean(self):
        raise forms.ValidationError("All of it is wrong.")


def elements(template: str, **context) -> Elements:
    return Elements(render_to_string(f"components/{template}.html", context))


def named(found: Elements, tag: str) -> list[dict]:
    return [attributes for name, attributes in found.found if name == tag]


def htmx_request(**headers: str):
    request = RequestFactory().get("/", headers=headers)
    request.htmx = headers.get("HX-Request") == "true"
    return request


def test_every_control_has_a_label_and_describes_itself():
    form = Sample({})
    for field in form:
        found = elements("_field", field=field)
        ids = {attributes["id"] for _, attributes in found.found if "id" in attributes}
        described = [a["aria-describedby"].split() for _, a in found.found if "aria-describedby" in a]
        labelled = {label.get("for") for label in named(found, "label")}
        assert bool(described) == bool(field.help_text or field.errors), field.name
        assert {part for parts in described for part in parts} <= ids
        assert {control["id"] for control in named(found, "input")} == labelled - {None}


def test_a_field_says_when_it_may_be_left_out():
    form = Sample()
    assert "optional" in elements("_field", field=form["note"]).words
    assert "optional" not in elements("_field", field=form["email"]).words


def test_the_error_summary_takes_the_focus_and_links_to_each_field():
    form = Sample({})
    found = elements("_error_summary", form=form)
    assert named(found, "div")[0].keys() >= {"autofocus", "tabindex", "role"}
    assert "All of it is wrong." in found.words
    targets = [link["href"].removeprefix("#") for link in named(found, "a")]
    whole = elements("_form", form=form, verb="Save")
    assert targets
    assert set(targets) <= {attributes.get("id") for _, attributes in whole.found}


def test_a_form_without_errors_has_no_summary():
    assert elements("_error_summary", form=Sample()).found == []


@pytest.mark.parametrize(("value", "low", "high"), [(0, "4000", "4750"), (3412, "4000", "4750")])
def test_the_meter_warns_at_80_and_95_percent(value, low, high):
    (meter,) = named(elements("_meter", value=value, max=5000, label="Platform credits used"), "meter")
    assert (meter["low"], meter["high"]) == (low, high)
    assert meter["aria-label"] == f"Platform credits used: {value:,} of 5,000"


def test_errors_stay_on_the_page_and_the_rest_are_toasts():
    said = [Message(constants.ERROR, "It failed"), Message(constants.SUCCESS, "Key rotated")]
    assert elements("_messages", messages=said).words.split() == ["It", "failed"]
    assert "Key rotated" in elements("_toasts", messages=said).words
    assert "It failed" not in elements("_toasts", messages=said).words


@pytest.mark.parametrize(
    ("template", "context"),
    [
        ("_notice", {"text": "{}", "title": "{}", "url": "/", "link": "{}", "tone": "bad"}),
        ("_empty", {"title": "{}", "text": "{}", "url": "/", "link": "{}", "learn_url": "/", "learn": "{}"}),
        ("_toast", {"text": "{}"}),
        ("_code", {"id": "x", "label": "{}", "text": "{}"}),
        ("_dl", {"rows": [("{}", "{}")]}),
        ("_dialog", {"id": "x", "title": "{}", "text": "{}", "verb": "{}", "action": "/"}),
    ],
)
def test_text_from_outside_stays_text(template, context):
    def hostile(value):
        return [tuple(map(hostile, row)) for row in value] if isinstance(value, list) else value.format("<b>x</b>")

    found = elements(template, **{name: hostile(value) for name, value in context.items()})
    assert "<b>x</b>" in found.words
    assert named(found, "b") == [{}] * (template == "_notice")  # its own title


def test_the_pager_has_no_numbers_and_no_dead_links():
    assert named(elements("_pager", shown=50), "a") == []
    older = elements("_pager", shown=50, older_url="?after=x")
    assert [link["href"] for link in named(older, "a")] == ["?after=x"]
    assert "50 shown" in older.words


def test_only_a_partial_request_gets_the_fragment():
    assert wants_fragment(htmx_request(**{"HX-Request": "true", "HX-Request-Type": "partial"}))
    assert not wants_fragment(htmx_request(**{"HX-Request": "true", "HX-Request-Type": "full"}))
    assert not wants_fragment(htmx_request(**{"HX-Request-Type": "partial"}))
    assert not wants_fragment(htmx_request())


def test_a_fragment_is_never_kept_for_its_page():
    response = render_fragment(htmx_request(), "components/_dl.html", "components/_toast.html", {"text": "x"}, 422)
    assert response.status_code == 422
    assert response["Vary"] == "HX-Request"
    assert b"<dl" in response.content


def test_a_toast_alone_goes_to_the_toasts():
    response = toast(htmx_request(), "Key rotated")
    (partial,) = named(Elements(response.content.decode()), "hx-partial")
    assert partial == {"hx-target": "#toasts", "hx-swap": "beforeend"}


@pytest.mark.parametrize(
    ("cookie", "account", "shown"),
    [
        (None, None, "system"),
        (None, "dark", "dark"),
        ("light", "dark", "light"),
        ("system", "dark", "system"),
        ('"><script>', "dark", "dark"),
        ("nonsense", "nonsense", "system"),
    ],
)
def test_the_theme_is_this_browsers_choice_or_else_the_accounts(cookie, account, shown):
    request = RequestFactory().get("/")
    if cookie:
        request.COOKIES["theme"] = cookie
    if account:
        request.user = type("Person", (), {"theme": account})()
    assert theme(request) == {"theme": shown}
