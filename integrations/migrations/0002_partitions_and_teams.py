from django.db import migrations

from audit.months import make_months
from audit.schema import team_key, team_reference

# The table as the model describes it, made again as one that is partitioned by month.
PARTITION = """
ALTER TABLE integrations_call RENAME TO integrations_call_plain;
CREATE TABLE integrations_call (
    LIKE integrations_call_plain INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
DROP TABLE integrations_call_plain;
ALTER TABLE integrations_call
    ADD FOREIGN KEY (team_id) REFERENCES accounts_team (id) DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX call_team_started ON integrations_call (team_id, started_at DESC, id DESC);
CREATE INDEX call_run ON integrations_call (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX call_open ON integrations_call (started_at) WHERE state IN ('sent', 'unknown');
CREATE TABLE integrations_call_default PARTITION OF integrations_call DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("integrations", "0001_initial"),
        ("accounts", "0002_plans"),
        ("vault", "0001_initial"),
        ("audit", "0002_log"),
    ]
    operations = [
        migrations.RunSQL(PARTITION),
        migrations.RunPython(lambda apps, editor: make_months(), migrations.RunPython.noop),
        team_key("integrations_connection"),
        team_reference("integrations_connection", "credential_id", "vault_credential"),
        team_reference("integrations_call", "connection_id", "integrations_connection"),
        team_reference("integrations_call", "credit_account_id", "accounts_creditaccount"),
    ]
