from django.db import migrations

from audit.schema import team_key, team_reference


class Migration(migrations.Migration):
    dependencies = [("personas", "0001_initial")]
    operations = [
        team_key("personas_persona"),
        team_key("personas_personaversion"),
        team_key("personas_flow"),
        team_key("personas_flowversion"),
        team_key("personas_schedule"),
        team_key("personas_firing"),
        team_key("personas_run"),
        team_reference("personas_persona", "version_id", "personas_personaversion"),
        team_reference("personas_personaversion", "persona_id", "personas_persona"),
        team_reference("personas_flow", "version_id", "personas_flowversion"),
        team_reference("personas_flowversion", "flow_id", "personas_flow"),
        team_reference("personas_schedule", "flow_id", "personas_flow"),
        team_reference("personas_firing", "schedule_id", "personas_schedule"),
        team_reference("personas_run", "flow_id", "personas_flow"),
        team_reference("personas_run", "flow_version_id", "personas_flowversion"),
        team_reference("personas_run", "firing_id", "personas_firing"),
        team_reference("personas_stagerun", "run_id", "personas_run"),
        team_reference("personas_stagerun", "persona_id", "personas_persona"),
        team_reference("personas_stagerun", "persona_version_id", "personas_personaversion"),
    ]
