from django.db import migrations, models

# The sums that are there do not say it: their days are added up anew.
AGAIN = """
INSERT INTO integrations_spendchange (team_id, started_at)
    SELECT DISTINCT spent.team_id, spent.day::timestamp AT TIME ZONE team.zone + interval '12 hours'
      FROM integrations_spendday spent JOIN accounts_team team ON team.id = spent.team_id
"""


class Migration(migrations.Migration):
    dependencies = [("integrations", "0009_spend")]

    operations = [
        migrations.AddField(
            "spendday",
            "asked",
            models.CharField(blank=True, default="", help_text="the model that was asked for", max_length=200),
            preserve_default=False,
        ),
        migrations.AddField(
            "spendday",
            "longest",
            models.PositiveBigIntegerField(default=0, help_text="tokens in and out of the longest call"),
            preserve_default=False,
        ),
        migrations.RunSQL(AGAIN, migrations.RunSQL.noop),
    ]
