"""What people type to try a rule about retention."""

from typing import Any
from urllib.parse import urlencode

from django import forms

from integrations.policy import GROUPS, LEVELS, Rules, read_rules, widens

TIERS = {
    "any": "Whatever their terms say",
    "safety": "Only what abuse review needs",
    "zdr": "Nothing",
}
TEAM = "all"
Scopes = list[tuple[str, str]]


class RetentionForm(forms.Form):
    """
    A rule to try, from the address. An address that says nothing tries the strictest rule on the whole team.

    After is_valid, `whose` says whose rule it is and `rules(...)` what that holder would ask for.
    """

    tier = forms.ChoiceField(label="Providers may keep", choices=list(TIERS.items()), widget=forms.RadioSelect)
    group = forms.MultipleChoiceField(
        label="For these model groups",
        help_text="A group that is not ticked keeps the rule that is in force for it.",
        choices=[(group, "All other models" if group == "other" else name) for group, name in GROUPS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Tick at least one group of models: a rule for none changes nothing."},
    )
    scope = forms.ChoiceField(
        label="Applies to",
        error_messages={"invalid_choice": "That persona or flow is not here any more. Choose whom the rule is for."},
    )

    def __init__(self, data: Any, *, personas: Scopes, flows: Scopes):
        usual = {"tier": LEVELS[-1], "group": list(GROUPS), "scope": TEAM}
        given = {name: data.getlist(name) if name == "group" else data.get(name) for name in usual}
        if not any(given.values()):
            given = usual
        super().__init__({"scope": TEAM, **{name: value for name, value in given.items() if value}})
        self.fields["scope"].choices = [
            (TEAM, "The whole team"),
            *[(title, choices) for title, choices in (("Personas", personas), ("Flows", flows)) if choices],
        ]

    @property
    def whose(self) -> tuple[str, str]:
        """What kind of holder the rule is for, and its slug: empty for the team."""
        kind, _, slug = self.cleaned_data["scope"].partition(":")
        return ("team", "") if kind == TEAM else (kind, slug)

    @property
    def query(self) -> str:
        """The rule, as an address says it."""
        return urlencode(self.cleaned_data, doseq=True)

    def rules(self, kept: Rules, floor: Rules | None) -> Rules:
        """A holder's rules with this one in them. Adds an error where the floor asks for more."""
        level, groups = self.cleaned_data["tier"], self.cleaned_data["group"]
        retention = {group: kept.retention[group] for group in kept.retention if group not in groups}
        retention |= dict.fromkeys(groups, level) if level != "any" else {}
        tried = read_rules(kept.as_json() | {"retention": retention})
        for problem in widens(floor, tried) if floor else ():
            self.add_error("tier", problem)
        return tried
