from django.db import migrations

from audit.schema import team_key, team_reference

APPEND_ONLY = """
CREATE TRIGGER integrations_capentry_append_only BEFORE UPDATE OR DELETE ON integrations_capentry
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("integrations", "0004_limits"), ("accounts", "0003_ledger")]
    operations = [
        team_key("integrations_cap"),
        team_key("integrations_capcounter"),
        team_key("integrations_approval"),
        team_reference("integrations_capcounter", "cap_id", "integrations_cap"),
        team_reference("integrations_capentry", "counter_id", "integrations_capcounter"),
        team_reference("integrations_approval", "connection_id", "integrations_connection"),
        migrations.RunSQL(APPEND_ONLY, "DROP TRIGGER integrations_capentry_append_only ON integrations_capentry"),
    ]
