"""What people type to connect an integration."""

from django import forms

from vault.actions import PostedSecretRefused, checked_secret
from vault.models import Credential


class SecretInput(forms.PasswordInput):
    """A field whose value is never sent back to the browser."""

    def __init__(self) -> None:
        super().__init__(render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"})


class ConnectForm(forms.Form):
    """A key, what kind it is, and a name for the connection."""

    label = forms.CharField(
        max_length=80,
        label="Name",
        help_text="How your team tells this connection from others, such as “Main account”.",
    )
    kind = forms.ChoiceField(
        choices=Credential.Kind.choices,
        initial=Credential.Kind.API_KEY,
        label="Kind of key",
        widget=forms.RadioSelect,
        help_text="An API key runs models. A management key reads the account's balance and cannot run models.",
    )
    key = forms.CharField(
        label="Key",
        widget=SecretInput,
        max_length=2000,
        help_text="Encrypted before it is stored. Nobody can read it here again, you included.",
    )

    def clean_key(self) -> str:
        try:
            return checked_secret(self.cleaned_data["key"])
        except PostedSecretRefused as refusal:
            raise forms.ValidationError(str(refusal)) from None
