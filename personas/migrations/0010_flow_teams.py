from django.db import migrations

from audit.schema import team_key, team_reference


class Migration(migrations.Migration):
    dependencies = [("personas", "0009_flows_that_fire"), ("integrations", "0006_pace")]
    operations = [
        migrations.RunSQL("UPDATE personas_flowversion SET published_at = created_at", migrations.RunSQL.noop),
        migrations.RunSQL(
            "UPDATE personas_run SET trigger = 'schedule' WHERE firing_id IS NOT NULL", migrations.RunSQL.noop
        ),
        team_key("personas_trigger"),
        team_key("personas_notice"),
        team_reference("personas_flow", "draft_id", "personas_flowversion"),
        team_reference("personas_trigger", "flow_id", "personas_flow"),
        team_reference("personas_trigger", "after_id", "personas_flow"),
        team_reference("personas_triggerevent", "trigger_id", "personas_trigger"),
        team_reference("personas_triggerevent", "run_id", "personas_run"),
        team_reference("personas_run", "again_of_id", "personas_run"),
        team_reference("personas_run", "caused_by_id", "personas_run"),
        team_reference("personas_run", "waits_for_id", "personas_run"),
        team_reference("personas_notice", "run_id", "personas_run"),
        team_reference("personas_noticewish", "connection_id", "integrations_connection"),
        team_reference("personas_delivery", "run_id", "personas_run"),
        team_reference("personas_delivery", "notice_id", "personas_notice"),
        team_reference("personas_delivery", "connection_id", "integrations_connection"),
    ]
