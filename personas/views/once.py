"""What every button that starts a run sends along: a key, so that sending it twice starts one run."""

from django.http import HttpRequest


def sending_key(request: HttpRequest) -> str:
    """Return the key that a form carries so that sending it again is known for what it is. Empty without one."""
    return "".join(letter for letter in request.POST.get("once", "")[:64] if letter.isalnum())


def wants_rehearsal(request: HttpRequest) -> bool:
    """Whether the button that was pressed asks for a rehearsal of the fallback."""
    return "rehearse" in request.POST
