"""What people type to connect an integration."""

from typing import Any

from django import forms

from integrations.registry import CannotConnect, ConnectField, Integration
from vault.actions import PostedSecretRefused, checked_secret
from vault.models import Credential


class SecretInput(forms.PasswordInput):
    """A field whose value is never sent back to the browser."""

    def __init__(self) -> None:
        super().__init__(render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"})


def _label() -> forms.CharField:
    return forms.CharField(
        max_length=80,
        label="Name",
        help_text="How your team tells this connection from others, such as “Main account”.",
    )


class ConsentForm(forms.Form):
    """A name for the connection that a member's consent will make."""

    label = _label()


class ConnectForm(forms.Form):
    """
    A name for the connection, and what its integration asks for.

    Once valid, `posted` is the one text to keep, and `made` the values that were made here, by their labels.
    """

    label = _label()
    kind = forms.ChoiceField(
        choices=Credential.Kind.choices,
        initial=Credential.Kind.API_KEY,
        label="Kind of key",
        widget=forms.RadioSelect,
        help_text="An API key runs models. A management key reads the account's balance and cannot run models.",
    )

    def __init__(self, *args: Any, integration: Integration, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connecting = integration.connecting
        if not integration.management_key_url:
            del self.fields["kind"]
        for each in self.connecting.fields:
            self.fields[each.name] = _field(each)

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if not self.errors:
            self._join({each.name: data[each.name] for each in self.connecting.fields})
        return data

    def _join(self, values: dict[str, str]) -> None:
        empty = [each for each in self.connecting.fields if each.made and not values[each.name]]
        values |= {each.name: each.made() for each in empty}
        try:
            self.posted = checked_secret(self.connecting.join(values))
            self.made = {each.label: values[each.name] for each in empty}
        except CannotConnect as problem:
            self.add_error(problem.field, str(problem))
        except PostedSecretRefused as refusal:
            self.add_error(self.connecting.fields[-1].name, str(refusal))


def _field(asked: ConnectField) -> forms.CharField:
    return forms.CharField(
        label=asked.label,
        help_text=asked.help,
        max_length=asked.most,
        required=asked.made is None,
        widget=SecretInput if asked.secret else forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class CallsAtOnceForm(forms.Form):
    """How many calls may be on their way at once, or nothing for no bound."""

    MOST = 1000

    most = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST,
        error_messages=dict.fromkeys(
            ["invalid", "min_value", "max_value"], f"Give a number from 1 to {MOST}, or none."
        ),
    )
