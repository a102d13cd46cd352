from django.db import migrations

from audit.schema import team_key, team_reference


class Migration(migrations.Migration):
    dependencies = [("personas", "0006_chats")]
    operations = [
        team_key("personas_chat"),
        team_key("personas_message"),
        team_key("personas_attachment"),
        team_reference("personas_persona", "draft_id", "personas_personaversion"),
        team_reference("personas_chat", "persona_id", "personas_persona"),
        team_reference("personas_message", "chat_id", "personas_chat"),
        team_reference("personas_message", "parent_id", "personas_message"),
        team_reference("personas_message", "run_id", "personas_run"),
        team_reference("personas_attachment", "message_id", "personas_message"),
        team_reference("personas_run", "chat_id", "personas_chat"),
    ]
