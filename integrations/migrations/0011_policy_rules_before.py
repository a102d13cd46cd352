from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0010_spend_asked")]

    operations = [
        migrations.AddField(
            "policy",
            "rules_before",
            models.JSONField(default=dict, help_text="what the last change replaced"),
        ),
    ]
