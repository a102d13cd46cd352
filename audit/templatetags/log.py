"""How events look in a list."""

from django import template
from django.utils.safestring import SafeString

from audit import display
from audit.models import Event
from definable.templatetags.ui import state

register = template.Library()
register.filter("visible", display.visible)
register.filter("action_words", display.action_words)


@register.simple_tag
def outcome(event: Event) -> SafeString | str:
    """Show how an event ended, where it says so."""
    key, word = display.outcome_state(event.action, event.outcome)
    return state(key, display.visible(word)) if key else ""
