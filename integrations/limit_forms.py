"""What people choose for a dollar cap."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms

from integrations.models import Cap

MODE_HINT = (
    "Strict never overspends, and holds much more than most calls cost while they run. Expected lets more calls run "
    "side by side, and may pass the cap."
)


class LimitForm(forms.Form):
    """The dollars of a cap, and how they are held."""

    limit_usd = forms.DecimalField(
        min_value=Decimal(0), max_value=Decimal(10_000_000), max_digits=14, decimal_places=6, label="US dollars at most"
    )
    mode = forms.ChoiceField(
        choices=Cap.Mode.choices,
        initial=Cap.Mode.STRICT,
        widget=forms.RadioSelect,
        label="What a call holds",
        help_text=MODE_HINT,
    )


class CapForm(LimitForm):
    """A whole cap. `who` says kind and subject: "persona:" is each persona, "persona:<id>" one of them."""

    who = forms.ChoiceField(label="Who")
    period = forms.ChoiceField(choices=Cap.Period.choices, initial=Cap.Period.MONTH, label="In which time")
    field_order = ("who", "limit_usd", "period", "mode")

    def __init__(self, *args: Any, names: Mapping[str, Mapping[UUID, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["who"].choices = [
            ("team:", "The whole team"),
            ("Each of them", [(f"{kind}:", label) for kind, label in EACH.items()]),
            *[(title, [(f"{kind}:{id}", name) for id, name in names[kind].items()]) for kind, title in ONE.items()],
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("who") == "run:" and data.get("period") not in (None, Cap.Period.EVER):
            self.add_error("period", "A run is limited in all. Choose “in all”.")
        kind, _, subject = data.get("who", "").partition(":")
        return data | {"kind": kind, "subject": UUID(subject) if subject else None}


EACH = {"member": "Each member", "persona": "Each persona", "flow": "Each flow", "run": "Each run"}
ONE = {"member": "One member", "persona": "One persona", "flow": "One flow"}
