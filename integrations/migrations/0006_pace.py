import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0005_limit_teams"), ("accounts", "0003_ledger")]
    operations = [
        migrations.CreateModel(
            name="Pace",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "subject",
                    models.CharField(
                        help_text="team, or a kind and an id: member:…, persona:…, tool:…", max_length=120
                    ),
                ),
                ("due_at", models.DateTimeField()),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.team"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="pace",
            constraint=models.UniqueConstraint(fields=("team", "subject"), name="one_pace_per_subject"),
        ),
        # Written at every call and worth nothing after a minute.
        migrations.RunSQL("ALTER TABLE integrations_pace SET UNLOGGED", "ALTER TABLE integrations_pace SET LOGGED"),
    ]
