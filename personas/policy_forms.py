"""What people type about policies."""

from collections.abc import Iterable
from typing import Any

from django import forms

from integrations.policy import GROUPS, LEVELS, BadRules, Rules, read_rules
from integrations.policy.rules import Level
from personas.scope_forms import Lines

Choices = list[tuple[str, str]]
PROVIDERS = "Slugs such as azure, full tags such as google-vertex/us-east5, or deepinfra* for all that begin so."
SHORT: dict[Level, str] = {"any": "what their terms say", "safety": "for abuse review only", "zdr": "nothing"}
WRONG_PRICE = "Write US dollars from 0 to 1,000,000 with digits and a point, such as 2.50."
PRICE = "US dollars for a million tokens, such as 2.50. Empty: any price."


def _is_text(line: str) -> bool:
    return len(line) <= 200


def _lines(label: str, help_text: str) -> Lines:
    return Lines(label=label, help_text=help_text, fits=_is_text, wrong="This is too long.")


class PolicyForm(forms.Form):
    """
    The rules of one policy. Under a floor it offers only what is as tight or tighter.

    After is_valid, `rules` holds them. What asks for less than the floor is let through here, for the
    action to refuse by name.
    """

    data_collection = forms.ChoiceField(label="Training on prompts", required=False)
    providers_only = _lines("Only these providers", f"{PROVIDERS} One per line. Empty: every provider.")
    providers_never = _lines("Never these providers", "Comes before the list above, service tiers included.")
    max_price_in = forms.CharField(label="Most for tokens in", help_text=PRICE, required=False, max_length=40)
    max_price_out = forms.CharField(label="Most for tokens out", help_text=PRICE, required=False, max_length=40)
    regions = _lines(
        "Only in these regions",
        "Countries such as DE, or regions such as europe-west1, one per line. Few providers say where they compute; "
        "those that do not are refused.",
    )

    def __init__(self, *args: Any, rules: Rules, floor: Rules | None, **kwargs: Any) -> None:
        super().__init__(*args, initial=as_typed(rules), **kwargs)
        self.rules = rules
        for group, name in GROUPS.items():
            field = forms.ChoiceField(
                label=f"{name} models" if group != "other" else "All other models", required=False
            )
            _offer(field, _levels(floor.level(group) if floor else None), LEVELS)
            self.fields[f"retention_{group}"] = field
        _offer(self.fields["data_collection"], _training(floor), ("allow", "deny"))
        for name in ("max_price_in", "max_price_out"):
            self.fields[name].widget.attrs |= {"inputmode": "decimal", "autocomplete": "off"}

    @property
    def retention(self) -> list[forms.BoundField]:
        """The fields of the groups of models."""
        return [self[f"retention_{group}"] for group in GROUPS]

    @property
    def others(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if not name.startswith("retention_")]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        said = _said(given)
        for name, value in said.items():
            try:
                read_rules({name: value})
            except BadRules as refusal:
                problems = [WRONG_PRICE] if name.startswith("max_price") else list(dict.fromkeys(refusal.problems))
                self.add_error(None if name == "retention" else name, " ".join(problems))
        if not self.errors:
            self.rules = read_rules(said)
        return given


def _said(given: dict[str, Any]) -> dict[str, Any]:
    """The rules that were typed; what was left empty is not said."""
    retention = {group: given[f"retention_{group}"] for group in GROUPS if given.get(f"retention_{group}")}
    names = ("data_collection", "providers_only", "providers_never", "max_price_in", "max_price_out", "regions")
    said = {name: given[name] for name in names if given.get(name)}
    return said | ({"retention": retention} if retention else {})


def as_typed(rules: Rules) -> dict[str, str]:
    """What somebody would type to ask for rules: the values of a PolicyForm by field."""
    retention = {f"retention_{group}": rules.retention.get(group, "") for group in GROUPS}
    prices = {
        name: "" if (price := getattr(rules, name)) is None else f"{price:f}"
        for name in ("max_price_in", "max_price_out")
    }
    return (
        retention
        | prices
        | {
            "data_collection": "deny" if rules.data_collection == "deny" else "",
            "providers_only": "\n".join(rules.providers_only or ()),
            "providers_never": "\n".join(rules.providers_never),
            "regions": "\n".join(rules.regions or ()),
        }
    )


def _levels(floor: Level | None) -> Choices:
    """What a group may be set to: empty leaves it to the floor, or to the providers where this is the floor."""
    tighter = LEVELS[LEVELS.index(floor) + 1 :] if floor else LEVELS[1:]
    unsaid = f"Floor: {SHORT[floor]}" if floor else SHORT["any"]
    return [("", _capital(unsaid)), *((level, _capital(SHORT[level])) for level in tighter)]


def _training(floor: Rules | None) -> Choices:
    if floor and floor.data_collection == "deny":
        return [("", "Floor: left out")]
    return [
        ("", "Floor: no rule" if floor else "No rule"),
        ("deny", "Leave out who may train"),
    ]


def _offer(field: forms.ChoiceField, shown: Choices, read: Iterable[str]) -> None:
    """Show some choices and read more: what the floor rules out is to be refused by name, not as unknown."""
    field.choices = [*shown, *((value, value) for value in read)]
    field.widget.choices = shown


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
