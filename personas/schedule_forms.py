"""The forms of schedules: when a flow fires by itself, and for how long it does not."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from audit.clock import app_now
from personas import due, stages, timing
from personas.models import Flow, Schedule
from personas.schedules import Wish

DATE_AND_TIME = "%Y-%m-%dT%H:%M"
UNITS = {"minutes": 60, "hours": 3600, "days": 86_400, "seconds": 1}
LONGEST_EVERY = timedelta(days=366)
LONGEST_WINDOW = 24 * 31  # hours
MOST_JITTER = due.LONGEST_JITTER // timedelta(minutes=1)
KINDS = [("cron", "By a cron rule"), ("every", "Again and again after the same time"), ("once", "Once")]
FIELDS = {"cron": ["cron"], "every": ["every", "unit"], "once": ["starts_at"]}
INPUT = "input-"


def moment(label: str, help_text: str) -> forms.CharField:
    """A local date and time; whoever reads it knows the zone."""
    widget = forms.DateTimeInput(format=DATE_AND_TIME, attrs={"type": "datetime-local"})
    return forms.CharField(required=False, label=label, help_text=help_text, widget=widget, max_length=19)


class ScheduleForm(forms.Form):
    """When a flow fires by itself. Dates are local times of the zone that it names."""

    name = forms.CharField(
        required=False, max_length=60, label="Name", help_text="Tells it from other schedules of the flow."
    )
    kind = forms.ChoiceField(choices=KINDS, label="Fires", widget=forms.RadioSelect)
    cron = forms.CharField(
        required=False,
        max_length=120,
        label="Cron rule",
        help_text="Minute, hour, day of month, month, day of week. 0 6 * * 1 is Monday 06:00.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
    )
    every = forms.IntegerField(required=False, min_value=1, label="Every so many", help_text="At least 10 seconds.")
    unit = forms.ChoiceField(required=False, label="Unit", choices=[(unit, unit.capitalize()) for unit in UNITS])
    zone = forms.CharField(max_length=60, label="Time zone", help_text="An IANA name, such as Europe/Berlin.")
    starts_at = moment("From", "Local time of that zone. Nothing fires before; the time itself of one that fires once.")
    ends_at = moment("Until", "Local time of that zone. Nothing fires after.")
    jitter = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MOST_JITTER,
        label="Spread over minutes",
        help_text="Fires up to so many minutes later, always by the same time, so that not all start at once.",
    )
    catch_up = forms.ChoiceField(
        choices=Schedule.CatchUp.choices, label="After an absence", help_text="When this installation was not running."
    )
    window = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=LONGEST_WINDOW,
        label="Window in hours",
        help_text="Of “within a window”.",
    )
    overlap = forms.ChoiceField(choices=Schedule.Overlap.choices, label="When the run before is still going")

    def __init__(self, *args: Any, flow: Flow, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inputs = stages.read_inputs(flow.version.inputs)
        for each in self.inputs:
            self.fields[INPUT + each.name] = forms.CharField(
                required=False,
                max_length=stages.MAX_INPUT,
                label=f"Input “{each.name}”",
                help_text=f"Empty: {each.default or 'nothing'}.",
                widget=forms.Textarea(attrs={"rows": 2}),
            )

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if not self.errors:
            self._check(data)
        return data

    def _check(self, data: dict[str, Any]) -> None:
        try:
            rule = rule_of(data)
            rule.next(app_now())
        except timing.BadRule as error:
            self.add_error("zone" if data["zone"] not in timing.known_zones() else FIELDS[data["kind"]][0], str(error))
        except ValidationError as error:
            self.add_error(None, error)

    def wish(self) -> Wish:
        """What was posted, as the actions take it. Call is_valid first."""
        data = self.cleaned_data
        rule = rule_of(data)
        return Wish(
            name=data["name"].strip(),
            zone=rule.zone,
            kind=rule.kind,
            cron=rule.cron,
            every_seconds=rule.every_seconds,
            starts_at=rule.starts_at,
            ends_at=rule.ends_at,
            jitter_seconds=60 * (data["jitter"] or 0),
            catch_up=data["catch_up"],
            catch_up_seconds=3600 * data["window"] if data["window"] else None,
            overlap=data["overlap"],
            inputs={each.name: data[INPUT + each.name] for each in self.inputs if data[INPUT + each.name]},
        )


class PauseForm(forms.Form):
    """For how long a schedule fires nothing."""

    until = moment("Until", "In your time zone. Empty: until somebody switches it on.")
    why = forms.CharField(required=False, max_length=300, label="Reason", help_text="Shown beside the pause.")

    def __init__(self, *args: Any, zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = zone

    def clean_until(self) -> datetime | None:
        until = local_moment(self.cleaned_data["until"], self.zone)
        if until and until <= app_now():
            raise ValidationError("Choose a time to come, or leave it empty.")
        return until


def rule_of(data: Mapping[str, Any]) -> timing.Rule:
    """The rule that a form's data names. Raises BadRule, and ValidationError for a date that cannot be read."""
    kind, zone = data.get("kind") or "", data.get("zone") or ""
    timing.zone(zone)
    if kind not in FIELDS:
        raise timing.BadRule("Choose how it fires.")
    starts_at = local_moment(data.get("starts_at") or "", zone)
    return timing.Rule(
        zone=zone,
        kind=kind,
        cron=" ".join((data.get("cron") or "").split()) if kind == timing.CRON else "",
        every_seconds=_every(data) if kind == timing.EVERY else None,
        starts_at=starts_at or (app_now().replace(microsecond=0) if kind == timing.EVERY else None),
        ends_at=local_moment(data.get("ends_at") or "", zone) if kind != timing.ONCE else None,
    )


def _every(data: Mapping[str, Any]) -> int:
    count = str(data.get("every") or "")
    if not count.isascii() or not count.isdecimal() or len(count) > 9:
        raise timing.BadRule("Say after how much time it fires again: a whole number.")
    seconds = int(count) * UNITS.get(data.get("unit") or "", 60)
    if seconds > LONGEST_EVERY.total_seconds():
        raise timing.BadRule(f"The longest interval is {LONGEST_EVERY.days} days.")
    return seconds


def local_moment(text: str, zone: str) -> datetime | None:
    """Read what a field for date and time holds, as local time of a zone. Raises ValidationError."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=timing.zone(zone), second=0, microsecond=0)
    except ValueError:
        raise ValidationError("Write a date and time, such as 2027-03-28 06:00.") from None


def initial(schedule: Schedule, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What the form shows of a schedule that is there."""
    rule, seconds = schedule.rule, schedule.every_seconds or 0
    unit = next((name for name in ("days", "hours", "minutes") if seconds and seconds % UNITS[name] == 0), "seconds")
    zone = timing.zone(schedule.zone)
    return {
        **{name: getattr(schedule, name) for name in ("name", "kind", "cron", "zone", "catch_up", "overlap")},
        "every": seconds // UNITS[unit] or None,
        "unit": unit,
        "starts_at": rule.starts_at and f"{rule.starts_at.astimezone(zone):{DATE_AND_TIME}}",
        "ends_at": rule.ends_at and f"{rule.ends_at.astimezone(zone):{DATE_AND_TIME}}",
        "jitter": schedule.jitter_seconds // 60 or None,
        "window": (schedule.catch_up_seconds or 0) // 3600 or None,
        **{INPUT + name: value for name, value in inputs.items()},
    }
