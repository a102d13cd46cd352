"""The colour theme, known before the page is sent, so that nothing flashes."""

from django.http import HttpRequest

THEMES = {"system", "light", "dark"}


def theme(request: HttpRequest) -> dict[str, str]:
    """Context processor: this browser's choice, or else the one in the person's account."""
    chosen = request.COOKIES.get("theme")
    if chosen not in THEMES:
        chosen = getattr(getattr(request, "user", None), "theme", None)
    return {"theme": chosen if chosen in THEMES else "system"}
