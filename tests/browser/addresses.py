"""The address of every page, with real objects of the demo team in it."""

from typing import Any

from django.urls import reverse

from bench.installation import Installation
from tests.routes import Route, all_routes

# Reached only by POST, or no pages for a person to look at.
NO_PAGES = {
    "address_confirm",
    "approval_decide",
    "chat_again",
    "chat_archive",
    "chat_bring_back",
    "chat_edit",
    "chat_end",
    "chat_file",
    "chat_rename",
    "chat_send",
    "chat_share",
    "chat_stop",
    "chat_stream",
    "chat_unshare",
    "consent_callback",
    "consent_code",
    "delivery_again",
    "event_export",
    "flow_at_once",
    "flow_discard",
    "flow_export",
    "flow_matrix_preview",
    "flow_policy_apply",
    "flow_graph",
    "flow_publish",
    "flow_references",
    "flow_restore",
    "flow_run",
    "flow_scopes_apply",
    "flows_at_once",
    "healthz",
    "home",
    "invitation_renew",
    "invitation_revoke",
    "member_role",
    "notice_put_away",
    "notice_webhooks",
    "notice_wishes",
    "persona_bring_back",
    "persona_discard",
    "persona_export",
    "persona_matrix_preview",
    "persona_policy_apply",
    "persona_publish",
    "persona_restore",
    "persona_scopes_apply",
    "persona_wishes_drop",
    "policy_team_apply",
    "readyz",
    "retention_export",
    "run_again",
    "run_decide",
    "run_download",
    "run_pause",
    "run_progress",
    "run_resume",
    "run_share",
    "run_stop",
    "run_unshare",
    "schedule_preview",
    "schedule_resume",
    "schedules_pause",
    "schedules_resume",
    "spend_export",
    "team_switch",
    "connection_at_once",
    "trigger_in",
    "trigger_pause",
    "trigger_remove",
    "trigger_rotate",
    "catalog_read",
    "connection_test",
}
# Led to by a token that only a mail or a log holds; the pages that answer a wrong token are looked at.
TOKENS = {"token": "nobody-knows-this", "key": "MQ:wrong:key", "uidb36": "0"}
SIGNED_OUT = {"account_login", "account_signup", "account_reset_password", "account_reset_password_done"}
SIGNED_OUT |= {"account_reset_password_from_key", "account_reset_password_from_key_done", "sign_in_link"}
SIGNED_OUT |= {"account_inactive", "account_email_verification_sent", "account_confirm_email", "first_owner"}
SIGNED_OUT |= {"invitation_accept"}

IN_DEMO = "team_id = (SELECT id FROM accounts_team WHERE is_demo)"
# A turn of a chat in which a tool was called.
TURN = f"""
SELECT m.chat_id, m.id AS message_id, s.id AS stage_id FROM personas_message m
  JOIN personas_stagerun s ON s.run_id = m.run_id AND s.kind = 'tool'
 WHERE m.{IN_DEMO} ORDER BY m.created_at LIMIT 1
"""
OBJECTS = {
    "approval_id": f"SELECT id FROM integrations_approval WHERE {IN_DEMO} ORDER BY asked_at LIMIT 1",
    "chat_id": f"SELECT chat_id FROM ({TURN}) turn",
    "message_id": f"SELECT message_id FROM ({TURN}) turn",
    "stage_id": f"SELECT stage_id FROM ({TURN}) turn",
    "cap_id": f"SELECT id FROM integrations_cap WHERE {IN_DEMO} AND ended_at IS NULL LIMIT 1",
    "consent_id": f"""
INSERT INTO integrations_consent
       (id, team_id, integration, label, state, reason, challenge, by_id, created_at, changed_at)
SELECT gen_random_uuid(), team_id, integration, 'Agreed', 'failed', 'Ten minutes passed.', '', created_by_id, app_now(),
       app_now() FROM integrations_connection WHERE {IN_DEMO} LIMIT 1;
SELECT id FROM integrations_consent WHERE {IN_DEMO} LIMIT 1
""",
    "connection_id": f"SELECT id FROM integrations_connection WHERE {IN_DEMO} ORDER BY created_at LIMIT 1",
    "event_id": f"SELECT id FROM audit_event WHERE {IN_DEMO} AND action = 'call.finished' ORDER BY id DESC LIMIT 1",
    "flow": f"SELECT slug FROM personas_flow WHERE {IN_DEMO} ORDER BY created_at LIMIT 1",
    "invitation_id": f"SELECT id FROM accounts_invitation WHERE {IN_DEMO} LIMIT 1",
    "membership_id": f"SELECT id FROM accounts_membership WHERE {IN_DEMO} LIMIT 1",
    "persona": f"SELECT slug FROM personas_persona WHERE {IN_DEMO} ORDER BY created_at DESC LIMIT 1",
    "run_id": f"""
SELECT s.run_id FROM personas_stagerun s JOIN personas_run r ON r.id = s.run_id
 WHERE s.{IN_DEMO} AND s.used_fallback AND r.chat_id IS NULL ORDER BY s.id DESC LIMIT 1
""",
    "schedule_id": f"""
SELECT id FROM personas_schedule WHERE flow_id =
       (SELECT id FROM personas_flow WHERE {IN_DEMO} ORDER BY created_at LIMIT 1) LIMIT 1
""",
    "trigger_id": f"""
INSERT INTO personas_trigger
       (id, team_id, flow_id, kind, name, after_id, outcome, address, mapping, owner_id, created_at)
SELECT gen_random_uuid(), flow.team_id, flow.id, 'flow', 'Look again', other.id, 'succeeded', '', '{{}}',
       flow.created_by_id, app_now()
  FROM personas_flow flow JOIN personas_flow other ON other.team_id = flow.team_id AND other.id > flow.id
 WHERE flow.{IN_DEMO} LIMIT 1 ON CONFLICT DO NOTHING;
SELECT id FROM personas_trigger WHERE {IN_DEMO} LIMIT 1
""",
    "team_slug": "SELECT slug FROM accounts_team WHERE is_demo",
}


def pages() -> list[Route]:
    """Every address that shows a page."""
    return [route for route in all_routes() if route.name not in NO_PAGES]


def address(place: Installation, route: Route) -> str:
    """The address of a page, with objects of the demo team wherever it names some."""
    return reverse(route.name, kwargs={name: _value(place, route, name) for name in route.arguments})


def _value(place: Installation, route: Route, name: str) -> Any:
    fixed = TOKENS | {"integration": "openrouter", "tool": "create_chat_completion"}
    fixed |= {"plan_key": "pro", "pack_key": "pack-10k", "number": 1, "stage": 1, "start": "second-opinion"}
    fixed["model_id"] = "openai/gpt-4o-mini"
    return fixed[name] if name in fixed else _find(place, _what(route, name))


def _what(route: Route, name: str) -> str:
    if name != "slug":
        return name
    return "flow" if route.name.startswith(("flow", "schedule")) else "persona"


def _find(place: Installation, what: str) -> Any:
    with place.database() as database:
        found = database.execute(OBJECTS[what])
        while found.nextset():  # the last statement answers
            pass
        return found.fetchone()[0]
