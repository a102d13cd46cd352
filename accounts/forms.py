"""What people type about themselves and their teams."""

import structlog
from allauth.account.adapter import get_adapter
from allauth.account.forms import (
    ChangePasswordForm,
    LoginForm,
    ResetPasswordForm,
    ResetPasswordKeyForm,
    SetPasswordForm,
    SignupForm,
)
from allauth.core import context
from django import forms
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import quotas
from accounts.adapter import invitation_token
from accounts.models import Team, User, canonical_email
from accounts.permissions import ROLE_MEANINGS, Role, may_grant
from accounts.queries import acceptable_invitation
from accounts.zones import known_zones
from audit.clock import app_now

PASSWORD_ADVICE = "12 to 128 characters of any kind. 15 or more are better: a few words make a good one."  # noqa: S105


# Names a stranger would add to a form in the hope that we take them.
TEMPTING = {"team", "team_id", "role", "is_owner", "is_staff", "is_active", "is_demo", "plan", "plan_id", "granted"}

log = structlog.get_logger(__name__)


class ListedFieldsOnly:
    """A form takes its own fields only; whoever sends a tempting other one is named in the log."""

    def full_clean(self) -> None:
        if extra := TEMPTING & set(self.data) - set(self.fields):
            log.warning("unlisted_fields", form=type(self).__name__, fields=sorted(extra))
        super().full_clean()


class CanonicalEmailField(forms.EmailField):
    """An address in its one spelling, before anything checks, counts or looks it up."""

    def __init__(self, **kwargs):
        kwargs.setdefault("label", "E-mail")
        super().__init__(max_length=254, **kwargs)
        self.widget.attrs.update(autocomplete="email", autocapitalize="none", spellcheck="false")

    def to_python(self, value) -> str:
        return canonical_email(super().to_python(value))


class ZoneField(forms.ChoiceField):
    """An IANA time zone."""

    def __init__(self, **kwargs):
        kwargs.setdefault("label", "Time zone")
        super().__init__(choices=_zone_choices, **kwargs)


class GuessedZoneField(forms.CharField):
    """The zone the browser reports. What is no zone becomes UTC: the person did not type it."""

    def __init__(self):
        super().__init__(required=False, max_length=64, widget=forms.HiddenInput(attrs={"data-zone-guess": ""}))

    def clean(self, value) -> str:
        return value if value in known_zones() else "UTC"


def _zone_choices() -> list[tuple[str, str]]:
    return [(name, name.replace("_", " ")) for name in sorted(known_zones())]


def _name_field(**kwargs) -> forms.CharField:
    field = forms.CharField(label="Your name", max_length=80, **kwargs)
    field.widget.attrs["autocomplete"] = "name"
    return field


def _team_name_field() -> forms.CharField:
    field = forms.CharField(label="Team name", max_length=60, help_text="You can invite people and rename it later.")
    field.widget.attrs["autocomplete"] = "organization"
    return field


def _password_field() -> forms.CharField:
    return forms.CharField(
        label="Password",
        strip=False,
        help_text=PASSWORD_ADVICE,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


def _check_password(form: forms.Form, field: str) -> None:
    """Say on the form what is wrong with the password of the person it is about to make."""
    data = form.cleaned_data
    if field not in data:
        return
    person = User(email=data.get("email", ""), name=data.get("name", ""))
    person.team_name = data.get("team_name", "")
    try:
        validate_password(data[field], person)
    except ValidationError as error:
        form.add_error(field, error)


def _tidy_password_fields(form: forms.Form) -> None:
    """Allauth puts labels into placeholders, which vanish as soon as somebody types."""
    for name, label in (("oldpassword", "Current password"), ("password1", "New password")):
        if field := form.fields.get(name):
            field.label = label
            field.widget.attrs.pop("placeholder", None)
            field.help_text = PASSWORD_ADVICE if name == "password1" else ""
    # The browser shows what was typed on demand; typing it twice helps nobody.
    form.fields.pop("password2", None)


# --- signing in and out -----------------------------------------------------------------


class SignInForm(LoginForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["login"] = CanonicalEmailField()
        self.fields["login"].widget.attrs["autocomplete"] = "username"
        self.fields["password"].widget.attrs.pop("placeholder", None)
        self.fields["password"].help_text = ""
        self.order_fields(["login", "password"])


class SignUpForm(ListedFieldsOnly, SignupForm):
    """An account and a team of one's own, or an account to accept an invitation with."""

    field_order = ["name", "email", "password1", "team_name", "zone"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["name"] = _name_field()
        self.fields["email"] = CanonicalEmailField()
        self.fields["password1"] = _password_field()
        self.fields["zone"] = GuessedZoneField()
        if not self.is_invited and not settings.FREE_TEAMS_NEED_CONFIRMED_ADDRESS:
            self.fields["team_name"] = _team_name_field()
        self.order_fields(self.field_order)

    @property
    def is_invited(self) -> bool:
        """True when the person came from an invitation that can still be accepted."""
        request = context.request
        token = invitation_token(request.POST.get("next") or request.GET.get("next") or "")
        return bool(token) and acceptable_invitation(token=token, at=app_now()) is not None

    def clean(self) -> dict:
        cleaned = forms.Form.clean(self)
        _check_password(self, "password1")
        return cleaned

    @transaction.atomic
    def create_account(self) -> User:
        """Make the account, and the team unless it comes later. Raises NetworkFull and NoFreeTeams; then neither is."""
        data = self.cleaned_data
        user = User.objects.create_user(
            email=data["email"], password=data["password1"], name=data["name"], zone=data["zone"]
        )
        if "team_name" in data:
            network = quotas.network_of(get_adapter().get_client_ip(context.request))
            quotas.start_team(name=data["team_name"], owner=user, network=network, at=app_now(), zone=data["zone"])
        return user


class AskResetForm(ResetPasswordForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["email"] = CanonicalEmailField()


class NewPasswordForm(ResetPasswordKeyForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _tidy_password_fields(self)


class PasswordForm(ChangePasswordForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _tidy_password_fields(self)


class FirstPasswordForm(SetPasswordForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _tidy_password_fields(self)


class FirstOwnerForm(ListedFieldsOnly, forms.Form):
    """The installation's first account and team."""

    name = _name_field()
    email = CanonicalEmailField()
    password = _password_field()
    team_name = _team_name_field()
    zone = GuessedZoneField()

    def clean_email(self) -> str:
        email = self.cleaned_data["email"]
        if User.objects.filter(email=email).exists():
            raise ValidationError("This address has an account already.")
        return email

    def clean(self) -> dict:
        data = super().clean()
        _check_password(self, "password")
        return data


# --- the person and the team ------------------------------------------------------------


class AccountForm(ListedFieldsOnly, forms.ModelForm):
    name = _name_field()
    zone = ZoneField(help_text="Times on every page are shown in this zone.")

    class Meta:
        model = User
        fields = ["name", "zone", "theme"]
        labels = {"theme": "Colours"}


class TeamForm(ListedFieldsOnly, forms.ModelForm):
    zone = ZoneField(help_text="Reports of the team use it.")

    class Meta:
        model = Team
        fields = ["name", "zone"]
        labels = {"name": "Team name"}


class RoleForm(ListedFieldsOnly, forms.Form):
    """A role that the person asking may give."""

    role = forms.ChoiceField(label="Role")

    def __init__(self, *args, mine: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [(role.value, self.words(role)) for role in Role if may_grant(mine, role)]

    def words(self, role: Role) -> str:
        return role.label


class InviteForm(RoleForm):
    email = CanonicalEmailField(
        label="E-mail",
        required=False,
        help_text="We mail the link, and only this address can use it. Without one, pass the link on yourself.",
    )
    role = forms.ChoiceField(label="Role", widget=forms.RadioSelect, initial=Role.MEMBER)
    field_order = ["email", "role"]

    def __init__(self, *args, team: Team, **kwargs):
        super().__init__(*args, **kwargs)
        self.team = team
        self.fields["email"].widget.attrs["autocomplete"] = "off"

    def words(self, role: Role) -> str:
        return f"{role.label}: {ROLE_MEANINGS[role]}"

    def clean_email(self) -> str:
        email = self.cleaned_data["email"]
        if email and self.team.memberships.filter(user__email=email).exists():
            raise ValidationError("This person is a member already. Change the role in the list instead.")
        return email
