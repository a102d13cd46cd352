"""Sending a form twice starts one run."""

from django.http import HttpRequest


def sending_key(request: HttpRequest) -> str:
    """Return the key that a form carries so that sending it again is known for what it is. Empty without one."""
    return "".join(letter for letter in request.POST.get("once", "")[:64] if letter.isalnum())
