"""A run asks for its rights anew at every call."""

from uuid import uuid4

import pytest
from django.db import connection

from accounts.permissions import Role
from integrations import actions
from integrations.models import Call
from personas.actions import run_flow
from personas.execution import work
from personas.models import Run
from tests.factories import make_member
from tests.integrations.desk import CHAT, MODEL, Desk
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db

LOSSES = {
    "role": "UPDATE accounts_membership SET role = 'auditor' WHERE role = 'member'",
    "member": "DELETE FROM accounts_membership WHERE role = 'member'",
    "account": "UPDATE accounts_user SET is_active = false WHERE id IN"
    " (SELECT user_id FROM accounts_membership WHERE role = 'member')",
    "tool": """UPDATE vault_grant SET scopes = '{"tools": {"list_providers": "allowed"}}'""",
}
# What somebody does at the very moment between two stages.
MEANWHILE = """
CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {loss}; RETURN NULL; END $$;
CREATE TRIGGER meanwhile AFTER UPDATE ON personas_stagerun FOR EACH ROW
    WHEN (NEW.state = 'done' AND NEW.name = 'first') EXECUTE FUNCTION meanwhile();
"""


@pytest.mark.requirement("AUTHZ-6")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_right_lost_between_two_stages_stops_the_second(sandbox, settings, loss):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    desk = Desk(sandbox)
    persona = make_persona(desk.team, chain=[MODEL], by=desk.owner)
    actions.enable_for(connection=desk.connection, persona_id=persona.pk, tools=[CHAT], by=desk.owner)
    stages = [
        {"kind": "prompt", "name": name, "persona": str(persona.pk), "template": f"Say {name}"}
        for name in ("first", "second")
    ]
    member = make_member(desk.team, Role.MEMBER)
    run = run_flow(flow=make_flow(desk.team, stages), by=member, idempotency_key=uuid4().hex)
    with connection.cursor() as cursor:
        cursor.execute(MEANWHILE.format(loss=LOSSES[loss]))

    before = len([line for line in sandbox.journal() if line["path"].endswith("/chat/completions")])

    work(run_id=run.pk, owner="test")

    run.refresh_from_db()
    assert (run.state, [stage.state for stage in run.stages.all()]) == (Run.State.FAILED, ["done", "failed"])
    assert run.failure
    (call,) = Call.objects.filter(run_id=run.pk)
    assert call.state == "done"
    assert len([line for line in sandbox.journal() if line["path"].endswith("/chat/completions")]) == before + 1
