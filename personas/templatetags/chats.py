"""Tags that show chats. They read what the query brought and ask the database nothing."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from definable.markdown import render_markdown
from definable.templatetags import ui
from integrations import deciding
from integrations.models import Approval
from personas.chat.shown import Called, Figures, Shown
from personas.models import Run

register = template.Library()

# What became of a tool call: the state it is drawn as, and the word.
OUTCOMES = {
    "done": ("done", "Done"),
    "refused": ("blocked", "Refused"),
    "not_approved": ("blocked", "Not allowed"),
    "repeated": ("skipped", "Repeated"),
    "unknown_tool": ("failed", "No such tool"),
    "invalid_arguments": ("failed", "Wrong arguments"),
    "limit": ("blocked", "Limit reached"),
}
RETENTION = {"zdr": ("shield-ok", "keeps nothing"), "terms": ("shield-half", "keeps what its terms say")}
COPY = '<button class="btn btn-s btn-icon" type="button" data-js data-copy hidden aria-label="Copy code">{}</button>'


@register.filter
def said(text: str) -> SafeString:
    """Render what a model said, each block of code with a button that copies it."""
    return render_markdown(text, code_button=format_html(COPY, ui.icon("copy")))


@register.simple_tag
def tool_state(step: Called, run: Run) -> SafeString:
    """Show what became of a tool call."""
    if step.asks:
        return ui.state("approval")
    if step.outcome:
        key, word = OUTCOMES.get(step.outcome, ("failed", step.outcome.replace("_", " ").capitalize()))
        return ui.state(key, word)
    if run.is_finished:
        return ui.state("unknown", "Cut off") if step.calls else ui.state("skipped", "Not called")
    return ui.state("running" if step.stage.state == "running" else "waiting")


@register.simple_tag
def not_yours(approval: Approval, who: dict[str, Any], verdict: deciding.Verdict = "once") -> str:
    """Say why a member may not decide; empty when they may."""
    return deciding.why_not_yours(approval, **who, verdict=verdict)


@register.simple_tag
def retention_words(figures: Figures) -> SafeString | str:
    """Say what the provider that answered may keep; nothing where that is not known."""
    if figures.retention not in RETENTION:
        return "retention not reported"
    shape, words = RETENTION[figures.retention]
    return format_html("{}{}", ui.icon(shape), words)


@register.simple_tag
def billed(figures: Figures) -> str:
    """Say in a sentence what was billed for something that did not end as it should."""
    if figures.unknown:
        return "Whether it was billed is being looked up; until then its platform credits stay held."
    if not figures.usd and not figures.credits:
        return "Nothing was billed."
    credits = f"{ui.grouped(figures.credits)} platform credit{'' if figures.credits == 1 else 's'}"
    return f"Billed: {ui.usd(figures.usd)} and {credits}."


@register.simple_tag
def spoken(answer: Shown, name: str) -> str:
    """What a screen reader is told of an answer: that it began, and how it ended. Never its text."""
    run = answer.run
    if run.waits_for_approval:
        return f"{name} asks for your approval."
    if not run.is_finished:
        return f"{name} is answering."
    return {Run.State.STOPPED: "The answer was stopped.", Run.State.FAILED: "The answer broke off."}.get(
        run.state, f"{name} has answered."
    )
