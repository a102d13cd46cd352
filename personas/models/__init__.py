"""Personas, flows and their runs."""

from personas.models.attempts import Attempt, Cooldown
from personas.models.chats import Attachment, Chat, Message
from personas.models.flows import Firing, Flow, FlowVersion, Schedule, TeamFlows, Trigger, TriggerEvent
from personas.models.notices import Delivery, Notice, NoticeWish
from personas.models.personas import Persona, PersonaVersion
from personas.models.runs import Run, StageRun

__all__ = [
    "Attachment",
    "Attempt",
    "Chat",
    "Cooldown",
    "Delivery",
    "Firing",
    "Flow",
    "FlowVersion",
    "Message",
    "Notice",
    "NoticeWish",
    "Persona",
    "PersonaVersion",
    "Run",
    "Schedule",
    "StageRun",
    "TeamFlows",
    "Trigger",
    "TriggerEvent",
]
