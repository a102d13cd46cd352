"""Personas, flows and their runs."""

from personas.models.flows import Firing, Flow, FlowVersion, Schedule
from personas.models.personas import Persona, PersonaVersion
from personas.models.runs import Run, StageRun

__all__ = ["Firing", "Flow", "FlowVersion", "Persona", "PersonaVersion", "Run", "Schedule", "StageRun"]
