"""What people type about scopes: the limits of a grant and of one tool in it."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.core import signing

from accounts.models import Membership, Team, User
from integrations import lending
from integrations.models import Connection
from integrations.patterns import MOST_PATTERNS, is_pattern
from integrations.registry import Tool, json_schema
from integrations.scopes import ModelPatterns, ProviderLists, Rule, Scopes, ToolScope
from integrations.strict_json import NotPlainJson, load_object
from personas.models import Flow

PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/&()-]{0,99}")
AN_HOUR = timedelta(hours=1)
DATE_AND_TIME = "%Y-%m-%dT%H:%M"
MODEL = r"[A-Za-z0-9~@][A-Za-z0-9_.:/@-]*"


class Lines(forms.CharField):
    """Several short texts, one per line or between commas. Each is checked by `fits`."""

    def __init__(self, *, fits: Any, wrong: str, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"})
        super().__init__(required=False, widget=widget, **kwargs)
        self.fits, self.wrong = fits, wrong

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        lines = list(dict.fromkeys(filter(None, (line.strip() for line in re.split(r"[\n,]", text)))))
        if len(lines) > MOST_PATTERNS:
            raise forms.ValidationError(f"At most {MOST_PATTERNS:,} lines fit in here.")
        for number, line in enumerate(lines, start=1):
            if not self.fits(line):
                raise forms.ValidationError(f"Entry {number}: {self.wrong}")
        return lines


def _model_lines(label: str, help_text: str) -> Lines:
    wrong = "Write a model id in which * may stand for anything, such as openai/* or *:free."
    return Lines(label=label, help_text=help_text, fits=is_pattern, wrong=wrong)


def _provider_lines(label: str, help_text: str) -> Lines:
    wrong = "Write a provider's slug, such as google-vertex."
    return Lines(label=label, help_text=help_text, fits=PROVIDER.fullmatch, wrong=wrong)


class GrantForm(forms.Form):
    """What holds for everything that is done through one connection."""

    models_allow = _model_lines("Only these models", "One per line, such as openai/* or *:free. Empty: every model.")
    models_deny = _model_lines("Never these models", "Comes before the list above, variants of a model included.")
    providers_allow = _provider_lines("Only these providers", "Slugs, one per line. Empty: every provider.")
    providers_deny = _provider_lines("Never these providers", "Slugs, one per line.")
    end = forms.ChoiceField(label="Ends")
    end_at = forms.DateTimeField(
        required=False,
        label="Date and time",
        help_text="In your time zone. Read only with “on a date” above.",
        widget=forms.DateTimeInput(format=DATE_AND_TIME, attrs={"type": "datetime-local"}),
        input_formats=[DATE_AND_TIME],
    )
    approvers = Lines(
        label="Who may allow what asks first",
        help_text="E-mail addresses of members, one per line. Empty: everybody with the right to decide.",
        fits=lambda line: "@" in line and len(line) <= 254,
        wrong="Write the e-mail address of a member.",
    )

    def __init__(self, *args: Any, team: Team, scopes: Scopes, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, initial=_initial(team, scopes), **kwargs)
        self.team, self.before, self.now = team, scopes, now
        self.fields["end"].choices = _ends(scopes)

    def clean_approvers(self) -> tuple[UUID, ...]:
        given = {address.lower() for address in self.cleaned_data["approvers"]}
        members = Membership.objects.filter(team=self.team, user__email__in=given).values_list("user__email", "user")
        missing = given - {email for email, _ in members}
        if missing:
            raise forms.ValidationError(f"{len(missing)} of these addresses belong to no member of the team.")
        return tuple(user for _, user in sorted(members))

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("end") == "date" and "end_at" in data:
            if data["end_at"] is None:
                self.add_error("end_at", "Say when it ends.")
            elif data["end_at"] <= self.now:
                self.add_error("end_at", "This is over already. Choose a later time.")
        return data

    def scopes(self) -> Scopes:
        """The grant's scopes with these limits; what each tool may do stays as it was."""
        data = self.cleaned_data
        return self.before.model_copy(
            update={
                "models": ModelPatterns(allow=tuple(data["models_allow"]), deny=tuple(data["models_deny"])),
                "providers": ProviderLists(allow=tuple(data["providers_allow"]), deny=tuple(data["providers_deny"])),
                "approvers": data["approvers"],
                **self._end(),
            }
        )

    def _end(self) -> dict[str, Any]:
        unlimited = {"ends_at": None, "one_run": False, "only_run": None}
        match self.cleaned_data["end"]:
            case "hour":
                return unlimited | {"ends_at": (self.now + AN_HOUR).replace(microsecond=0)}
            case "date":
                return unlimited | {"ends_at": self.cleaned_data["end_at"]}
            case "run":
                return unlimited | {"one_run": True}
            case "none":
                return unlimited
            case _:
                return {}


def _initial(team: Team, scopes: Scopes) -> dict[str, Any]:
    named = Membership.objects.filter(team=team, user__in=scopes.approvers) if scopes.approvers else ()
    emails = named.order_by("user__email").values_list("user__email", flat=True) if named else ()
    return {
        "models_allow": "\n".join(scopes.models.allow),
        "models_deny": "\n".join(scopes.models.deny),
        "providers_allow": "\n".join(scopes.providers.allow),
        "providers_deny": "\n".join(scopes.providers.deny),
        "end": "keep" if _has_end(scopes) else "none",
        "end_at": scopes.ends_at,
        "approvers": "\n".join(emails),
    }


def _has_end(scopes: Scopes) -> bool:
    return bool(scopes.ends_at or scopes.one_run or scopes.only_run)


def _ends(scopes: Scopes) -> list[tuple[str, str]]:
    kept = [("keep", "As it is now")] if _has_end(scopes) else []
    return [
        *kept,
        ("none", "Never"),
        ("hour", "In an hour"),
        ("run", "After the next run that uses it"),
        ("date", "On a date"),
    ]


RULES = [(rule.value, rule.words) for rule in Rule]


class ToolScopeForm(forms.Form):
    """What a grant says of one tool. Fields that the tool has no use for are left out."""

    rule = forms.ChoiceField(choices=RULES, label="Use")
    unattended = forms.BooleanField(
        required=False, label="Also by schedule", help_text="Unticked: only in runs that a person started."
    )
    after_untrusted = forms.BooleanField(
        required=False,
        label="Also after text of strangers",
        help_text="Unticked: it asks first once a chat holds results of tools, or files. Strangers wrote them.",
    )
    max_tokens = forms.IntegerField(
        required=False, min_value=1, max_value=10_000_000, label="Longest answer", help_text="In tokens. Longer is cut."
    )
    max_messages = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=10_000,
        label="Longest conversation",
        help_text="In messages. A longer one is refused.",
    )
    pinned = forms.CharField(
        required=False,
        max_length=100_000,
        label="Fixed arguments",
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false", "class": "mono"}),
        help_text='One JSON object, such as {"temperature": 0.2}. Replaces what a caller gives; no model sees it.',
    )

    def __init__(self, *args: Any, tool: Tool, said: ToolScope, pinned_text: str, **kwargs: Any) -> None:
        initial = said.model_dump(include={"rule", "unattended", "after_untrusted", "max_tokens", "max_messages"})
        super().__init__(*args, initial=initial | {"rule": said.rule.value, "pinned": pinned_text}, **kwargs)
        self.tool = tool
        for name in _useless(tool):
            del self.fields[name]

    def clean_pinned(self) -> dict[str, Any]:
        text = self.cleaned_data["pinned"].strip()
        if not text:
            return {}
        try:
            pinned = load_object(text)
        except NotPlainJson as error:
            raise forms.ValidationError(f"{error} {error.hint}".strip()) from None
        problems = lending.pin_problems(self.tool, pinned)
        if problems:
            raise forms.ValidationError(problems)
        return pinned

    def said(self) -> ToolScope:
        """What the grant is to say of the tool."""
        return ToolScope(**self.cleaned_data | {"rule": Rule(self.cleaned_data["rule"])})


def _useless(tool: Tool) -> Iterable[str]:
    properties = json_schema(tool)["properties"]
    if tool.hints.read_only:
        yield "after_untrusted"
    if not tool.output_limit:
        yield "max_tokens"
    if "messages" not in properties:
        yield "max_messages"
    if not properties:
        yield "pinned"


class TryForm(forms.Form):
    """A call that somebody wonders about. `at` empty is now."""

    connection = forms.ChoiceField(label="Connection")
    tool = forms.ChoiceField(label="Tool")
    model = forms.CharField(
        required=False, max_length=200, label="Model", help_text="As OpenRouter writes it. Only tools that ask one."
    )
    member = forms.EmailField(label="Member", help_text="Whose rights the call would use.")
    flow = forms.ChoiceField(
        required=False, label="In a run of this flow", help_text="A flow may lend what the persona itself has not."
    )
    how = forms.ChoiceField(
        label="Started", choices=[("attended", "By that member"), ("schedule", "By a schedule of that member")]
    )
    at = forms.DateTimeField(
        required=False,
        label="When",
        help_text="In your time zone. Empty: now.",
        widget=forms.DateTimeInput(format=DATE_AND_TIME, attrs={"type": "datetime-local"}),
        input_formats=[DATE_AND_TIME],
    )

    def __init__(
        self, *args: Any, team: Team, connections: Iterable[Connection], flows: Iterable[Flow], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.team = team
        self.connections = {str(row.pk): row for row in connections}
        self.flows = {flow.slug: flow for flow in flows}
        self.tools = {tool.name: tool for row in self.connections.values() for tool in row.provider.tools}
        self.fields["connection"].choices = [(pk, row.label) for pk, row in self.connections.items()]
        self.fields["tool"].choices = [(name, tool.title) for name, tool in self.tools.items()]
        self.fields["flow"].choices = [("", "None"), *((slug, flow.name) for slug, flow in self.flows.items())]

    def clean_connection(self) -> Connection:
        return self.connections[self.cleaned_data["connection"]]

    def clean_tool(self) -> Tool:
        return self.tools[self.cleaned_data["tool"]]

    def clean(self) -> dict[str, Any]:
        connection, tool = self.cleaned_data.get("connection"), self.cleaned_data.get("tool")
        if connection and tool and not connection.provider.has(tool.name):
            self.add_error("tool", f"{connection.label} leads to {connection.provider.name}, which has no such tool.")
        return self.cleaned_data

    def clean_flow(self) -> Flow | None:
        return self.flows.get(self.cleaned_data["flow"])

    def clean_model(self) -> str:
        model = self.cleaned_data["model"]
        if model and not re.fullmatch(MODEL, model):
            raise forms.ValidationError("This is no model id.")
        return model

    def clean_member(self) -> User:
        email = self.cleaned_data["member"].lower()
        found = Membership.objects.filter(team=self.team, user__email=email).select_related("user").first()
        if found is None:
            raise forms.ValidationError("Nobody in this team has this address.")
        return found.user


# --- from preview to apply ----------------------------------------------------------------

SALT, LONGEST_WAIT = "scopes", timedelta(hours=1)


class NotThisPreview(Exception):
    """The preview is too old, or was made for somebody or something else. Nothing was applied."""


def seal_preview(place: list[str], changes: dict[str, dict[str, Any]]) -> str:
    """Make a previewed change unchangeable. `place`: whose, for whom, by whom; `changes` by connection."""
    return signing.dumps({"place": place, "changes": changes}, salt=SALT, compress=True)


def open_preview(place: list[str], text: str) -> dict[str, dict[str, Any]]:
    """Return the changes of a preview that was made at this place. Raises NotThisPreview."""
    try:
        preview = signing.loads(text, salt=SALT, max_age=LONGEST_WAIT)
    except signing.BadSignature:
        raise NotThisPreview from None
    if preview["place"] != place:
        raise NotThisPreview
    return preview["changes"]
