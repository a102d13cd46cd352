"""Personas, flows and their runs."""

from personas.models.attempts import Attempt, Cooldown
from personas.models.flows import Firing, Flow, FlowVersion, Schedule
from personas.models.personas import Persona, PersonaVersion
from personas.models.runs import Run, StageRun

__all__ = [
    "Attempt",
    "Cooldown",
    "Firing",
    "Flow",
    "FlowVersion",
    "Persona",
    "PersonaVersion",
    "Run",
    "Schedule",
    "StageRun",
]
