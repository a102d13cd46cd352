"""What members send from the page of a run, checked."""

from django import forms

from personas.approving import APPROVED, LONGEST_NOTE, REFUSED
from personas.retention import MOST_DAYS
from personas.stages import MAX_STAGES


class DecisionForm(forms.Form):
    """A decision about the stage of a number, with a note that later stages get as its output."""

    stage = forms.IntegerField(min_value=1, max_value=MAX_STAGES)
    verdict = forms.ChoiceField(
        choices=[(APPROVED, "Approve"), (REFUSED, "Refuse")], error_messages={"required": "Approve or refuse."}
    )
    note = forms.CharField(
        max_length=LONGEST_NOTE,
        required=False,
        widget=forms.Textarea({"rows": 3}),
        help_text="Later stages get it as the output of this one.",
    )

    def clean(self) -> dict:
        """As `approving.decide` takes it."""
        given = super().clean()
        return {
            "number": given.get("stage"),
            "approve": given.get("verdict") == APPROVED,
            "note": given.get("note", ""),
        }


class KeepingForm(forms.Form):
    """For how long a team keeps texts of runs."""

    keep_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_DAYS,
        label="Days after the end of a run",
        help_text="Empty: for ever. Chats are not of this: their members keep or delete them.",
    )
