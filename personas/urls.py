"""Addresses of personas, flows and runs, below a team's."""

from django.urls import path

from personas.views import approvals, console, flows, people, runs, scopes

team_urlpatterns = [
    path("personas/", people.persona_list, name="persona_list"),
    path("personas/new/", people.persona_create, name="persona_create"),
    path("personas/<slug:slug>/", people.persona_detail, name="persona_detail"),
    path("personas/<slug:slug>/edit/", people.persona_edit, name="persona_edit"),
    path("personas/<slug:slug>/scopes/", scopes.persona_matrix, name="persona_matrix"),
    path("personas/<slug:slug>/scopes/preview/", scopes.persona_matrix_preview, name="persona_matrix_preview"),
    path("personas/<slug:slug>/scopes/apply/", scopes.persona_scopes_apply, name="persona_scopes_apply"),
    path("personas/<slug:slug>/scopes/<uuid:connection_id>/", scopes.persona_scopes, name="persona_scopes"),
    path(
        "personas/<slug:slug>/scopes/<uuid:connection_id>/<slug:tool>/",
        scopes.persona_scope_tool,
        name="persona_scope_tool",
    ),
    path("personas/<slug:slug>/console/", console.console, name="console"),
    path("personas/<slug:slug>/console/<slug:integration>/<slug:tool>/", console.console_tool, name="console_tool"),
    path("approvals/", approvals.approval_list, name="approval_list"),
    path("approvals/<uuid:approval_id>/", approvals.approval_detail, name="approval_detail"),
    path("approvals/<uuid:approval_id>/decide/", approvals.approval_decide, name="approval_decide"),
    path("flows/", flows.flow_list, name="flow_list"),
    path("flows/new/", flows.flow_create, name="flow_create"),
    path("flows/<slug:slug>/", flows.flow_detail, name="flow_detail"),
    path("flows/<slug:slug>/edit/", flows.flow_edit, name="flow_edit"),
    path("flows/<slug:slug>/run/", flows.flow_run, name="flow_run"),
    path("flows/<slug:slug>/scopes/", scopes.flow_matrix, name="flow_matrix"),
    path("flows/<slug:slug>/scopes/preview/", scopes.flow_matrix_preview, name="flow_matrix_preview"),
    path("flows/<slug:slug>/scopes/apply/", scopes.flow_scopes_apply, name="flow_scopes_apply"),
    path("flows/<slug:slug>/scopes/<uuid:connection_id>/", scopes.flow_scopes, name="flow_scopes"),
    path("flows/<slug:slug>/scopes/<uuid:connection_id>/<slug:tool>/", scopes.flow_scope_tool, name="flow_scope_tool"),
    path("flows/<slug:slug>/schedule/", flows.flow_schedule, name="flow_schedule"),
    path("flows/<slug:slug>/schedule/_preview/", flows.schedule_preview, name="schedule_preview"),
    path("flows/<slug:slug>/schedule/pause/", flows.schedule_pause, name="schedule_pause"),
    path("flows/<slug:slug>/schedule/resume/", flows.schedule_resume, name="schedule_resume"),
    path("runs/", runs.run_list, name="run_list"),
    path("runs/<uuid:run_id>/", runs.run_detail, name="run_detail"),
    path("runs/<uuid:run_id>/_progress/", runs.run_progress, name="run_progress"),
    path("runs/<uuid:run_id>/stop/", runs.run_stop, name="run_stop"),
    path("runs/<uuid:run_id>/again/", runs.run_again, name="run_again"),
]
