from django.db import migrations

from audit.schema import team_key, team_reference


class Migration(migrations.Migration):
    dependencies = [("personas", "0003_limits"), ("integrations", "0005_limit_teams")]
    operations = [
        team_key("personas_stagerun"),
        team_reference("personas_run", "approval_id", "integrations_approval"),
        team_reference("personas_attempt", "run_id", "personas_run"),
        team_reference("personas_attempt", "stage_id", "personas_stagerun"),
        team_reference("personas_cooldown", "connection_id", "integrations_connection"),
    ]
