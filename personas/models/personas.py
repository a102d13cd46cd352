"""Personas: who works for a team, and what each was told to do."""

from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from audit.ids import uuid7
from personas.chains import MOST_MODELS, Routing


class PersonaQuerySet(models.QuerySet):
    def live(self) -> "PersonaQuerySet":
        """Personas that have not been archived."""
        return self.filter(archived_at=None)

    def working(self) -> "PersonaQuerySet":
        """Live personas that can be put to work: one of their versions was published."""
        return self.live().filter(version__isnull=False)


class Persona(models.Model):
    """A job description that may be lent connections. What it says lies in its versions."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="personas")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=60)
    purpose = models.CharField(max_length=120, blank=True)
    version = models.ForeignKey(
        "personas.PersonaVersion", null=True, on_delete=models.PROTECT, related_name="+", help_text="the one in use"
    )
    draft = models.ForeignKey(
        "personas.PersonaVersion", null=True, on_delete=models.PROTECT, related_name="+", help_text="not in use yet"
    )
    origin = models.UUIDField(
        default=uuid4, help_text="the same in every export, so that importing twice makes no copy"
    )
    wants = models.JSONField(
        default=list, help_text="tools it was made for and is not lent yet, as personas.wishes reads them"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True)
    problems = models.JSONField(default=list, help_text="what is wrong with its models, in words, as last checked")
    checked_at = models.DateTimeField(null=True, help_text="when its models were last held against the catalog")

    objects = PersonaQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "slug"], name="one_persona_per_slug"),
            models.UniqueConstraint(fields=["team", "origin"], name="one_persona_per_origin"),
        ]

    def __str__(self) -> str:
        return self.name


class PersonaVersion(models.Model):
    """
    What a persona was told at one time. Never changed: an edit makes the next number.

    A version without `published_at` is a draft, or was one that nobody published.
    """

    # What it says, field by field: what the editor asks for, a copy takes over and an export holds.
    SAYS = (
        "instructions",
        "chain",
        "routing",
        "format",
        "max_tokens",
        "temperature",
        "top_p",
        "reasoning_effort",
        "output_schema",
        "knows_time",
        "knows_member",
        "most_steps",
        "most_tool_calls",
        "most_seconds",
        "most_credits",
    )

    class Format(models.TextChoices):
        CHAT = "chat", "Chat completions"
        MESSAGES = "messages", "Anthropic messages"

    class Effort(models.TextChoices):
        NONE = "none", "None"
        MINIMAL = "minimal", "Minimal"
        LOW = "low", "Low"
        MEDIUM = "medium", "Medium"
        HIGH = "high", "High"
        XHIGH = "xhigh", "Extra high"
        MAX = "max", "All it has"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="persona_versions")
    persona = models.ForeignKey(Persona, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    instructions = models.TextField(blank=True)
    chain = ArrayField(
        models.CharField(max_length=200), default=list, blank=True, help_text="models, or patterns of them; best first"
    )
    routing = models.CharField(max_length=8, choices=Routing, default=Routing.ORDER)
    temperature = models.DecimalField(max_digits=3, decimal_places=2, null=True)
    max_tokens = models.PositiveIntegerField(default=1024)
    top_p = models.DecimalField(max_digits=3, decimal_places=2, null=True)
    reasoning_effort = models.CharField(
        max_length=8, choices=Effort, blank=True, help_text="empty: the model's own choice"
    )
    output_schema = models.JSONField(null=True, help_text="JSON Schema that its answers follow; null: free text")
    format = models.CharField(max_length=8, choices=Format, default=Format.CHAT, help_text="how models are spoken to")
    knows_time = models.BooleanField(default=False, help_text="told the time in the member's zone")
    knows_member = models.BooleanField(default=False, help_text="told the member's name and role")
    # For one turn of a chat. 20 tool calls and ten minutes are the most that LLM-2 allows.
    most_steps = models.PositiveSmallIntegerField(default=8, help_text="answers of a model within one turn")
    most_tool_calls = models.PositiveSmallIntegerField(default=20)
    most_seconds = models.PositiveSmallIntegerField(default=300)
    most_credits = models.PositiveIntegerField(default=500, help_text="platform credits that one turn may take")
    published_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "persona", "number"], name="one_persona_version_per_number"),
            models.CheckConstraint(
                condition=Q(temperature=None) | Q(temperature__gte=0, temperature__lte=2), name="temperature_0_to_2"
            ),
            models.CheckConstraint(condition=Q(chain__len__lte=MOST_MODELS), name="chain_is_short"),
            models.CheckConstraint(condition=Q(top_p=None) | Q(top_p__gt=0, top_p__lte=1), name="top_p_0_to_1"),
            models.CheckConstraint(
                condition=Q(most_steps__range=(1, 20), most_tool_calls__lte=20, most_seconds__range=(10, 600)),
                name="a_turn_ends",
            ),
        ]

    @property
    def says(self) -> dict[str, Any]:
        """All that it says, by field."""
        return {name: getattr(self, name) for name in self.SAYS}

    @property
    def has_models(self) -> bool:
        """Whether it can be prompted: a rule without a chain picks from the whole catalog."""
        return bool(self.chain) or self.routing != Routing.ORDER
