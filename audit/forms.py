"""The filters of the log's pages. Only the fields named here are ever read from an address."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django import forms

from accounts.models import Team
from audit.display import outcome_words
from audit.queries import Filter
from integrations.calls import OUTCOMES
from integrations.errors import UpstreamError
from integrations.registry import integrations

SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "any": None,
}
SPAN_NAMES = {
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "any": "All time",
}


def _moment(label: str) -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(required=False, label=label, widget=widget)


def _choice(label: str, length: int) -> forms.CharField:
    return forms.CharField(required=False, label=label, max_length=length, widget=forms.Select)


class FilterForm(forms.Form):
    """Which events to show, as the address says it."""

    range = forms.ChoiceField(required=False, label="Time", choices=SPAN_NAMES.items())
    since = _moment("From")
    until = _moment("To")
    actor = _choice("Who", 80)
    persona = forms.UUIDField(required=False, label="Persona", widget=forms.Select)
    tool = _choice("Tool", 80)
    outcome = _choice("Outcome", 40)
    action = forms.CharField(required=False, label="Action", max_length=80)
    run = forms.UUIDField(required=False, label="Run")
    call = forms.UUIDField(required=False, label="Call")
    all = forms.BooleanField(required=False, label="Show both events of every call")

    def __init__(self, data: Mapping[str, str], *, team: Team) -> None:
        # One run or call is found by its own index, whenever it was.
        usual = "any" if data.get("run") or data.get("call") else "24h"
        given = {name: data.get(name, "") for name in self.base_fields}
        super().__init__(given | {"range": given["range"] or usual}, auto_id="filter-%s")
        self.team = team

    def offer(self) -> None:
        """Fill the lists to choose from, which only a page that shows them needs."""
        team = self.team
        members = team.memberships.select_related("user").order_by("user__email")
        self._offer("actor", ((str(member.user_id), member.user.email) for member in members))
        self._offer(
            "persona", ((str(id), name) for id, name in team.personas.values_list("pk", "name").order_by("name"))
        )
        self._offer("tool", ((tool.name, tool.title) for service in integrations() for tool in service.tools))
        self._offer("outcome", ((name, outcome_words(name)) for name in known_outcomes()))

    def _offer(self, field: str, likely: Iterable[tuple[str, str]]) -> None:
        """Offer what is likely; what came by a link stays chosen although it is not in the list."""
        chosen = self.data[field]
        self.fields[field].widget.choices = ({"": "Any", chosen: chosen or "Any"} | dict(likely)).items()

    def clean(self) -> None:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and since >= until:
            self.add_error("until", "The range ends before it starts.")

    def main(self) -> list[forms.BoundField]:
        """The filters that most people use."""
        return [self[name] for name in ("range", "actor", "persona", "tool", "outcome")]

    def more(self) -> list[forms.BoundField]:
        """The others that are typed."""
        return [self[name] for name in ("since", "until", "action", "run", "call")]

    def as_filter(self, now: datetime) -> Filter:
        """Return the filter that this valid form describes."""
        chosen = dict(self.cleaned_data)
        span, since, until = chosen.pop("range"), chosen.pop("since"), chosen.pop("until")
        length = SPANS[span]
        return Filter(
            self.team.pk,
            since=since or (length and (until or now) - length),
            until=until,
            span="" if since or until else span,
            all_events=chosen.pop("all"),
            **chosen,
        )

    def query(self, **changes: str) -> str:
        """Return the query string of these filters, with some of them changed or added."""
        wanted = {name: self.data[name] for name in self.fields} | changes
        return urlencode({name: value for name, value in wanted.items() if value})

    def applied(self) -> list[tuple[str, str, str]]:
        """Return the label and value of every filter but the range, and the query string without it."""
        return [
            (self[name].label, self._said(name), self.query(**{name: ""}))
            for name in self.fields
            if name != "range" and self.data[name]
        ]

    def _said(self, name: str) -> str:
        choices = dict(getattr(self.fields[name].widget, "choices", ()))
        return str(choices.get(self.data[name], self.data[name]))

    def shorter_ranges(self) -> list[tuple[str, str]]:
        """Return the name and query string of every range shorter than this one."""
        names = list(SPANS)
        custom = self.data["since"] or self.data["until"]
        shorter = names[:-1] if custom else names[: names.index(self.data["range"])]
        return [(SPAN_NAMES[name], self.query(range=name, since="", until="")) for name in shorter]


def known_outcomes() -> list[str]:
    """Return every way in which a call can end."""
    failures = {kind.outcome for kind in UpstreamError.__subclasses__()}
    return ["done", "unknown", *sorted(failures | set(OUTCOMES.values()) | {UpstreamError.outcome})]
