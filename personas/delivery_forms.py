"""What members say about where results go, checked."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from accounts.models import Membership
from integrations.models import Connection
from personas import delivery
from personas.models import Delivery, Flow


class _Members(forms.ModelMultipleChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.user.email}, {obj.get_role_display().lower()}"


class _Webhooks(forms.ModelMultipleChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        return obj.label


class DeliveryForm(forms.Form):
    """To whom the results of a flow go by themselves: members of its team and webhooks of its team, nobody else."""

    members = _Members(
        Membership.objects.none(),
        required=False,
        label="By mail to",
        help_text="As plain text, to members who may see runs when it is sent.",
        widget=forms.CheckboxSelectMultiple,
    )
    connections = _Webhooks(
        Connection.objects.none(),
        required=False,
        label="To the webhooks",
        help_text="Signed, as JSON, with the rights of whoever the run acts for. Counted like any call of the tool.",
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, flow: Flow, **kwargs: Any):
        members, webhooks = delivery.readers(flow.team), delivery.webhooks(flow.team)
        now = {
            "members": members.filter(user__in=delivery.named(flow, Delivery.Kind.MAIL)),
            "connections": webhooks.filter(pk__in=delivery.named(flow, Delivery.Kind.WEBHOOK)),
        }
        super().__init__(*args, initial=now, **kwargs)
        self.fields["members"].queryset, self.fields["connections"].queryset = members, webhooks

    def clean_members(self) -> list[Membership]:
        return _at_most(self.cleaned_data["members"], delivery.MOST_MAILS, "members")

    def clean_connections(self) -> list[Connection]:
        return _at_most(self.cleaned_data["connections"], delivery.MOST_WEBHOOKS, "webhooks")


def _at_most(chosen: Any, most: int, what: str) -> list[Any]:
    if len(chosen) > most:
        raise ValidationError(f"Results go to at most {most} {what}.")
    return list(chosen)
