from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_log")]
    operations = [
        migrations.AddIndex("event", models.Index(fields=["team_id", "actor_id", "-at", "-id"], name="event_actor_at")),
        migrations.AddIndex(
            "event",
            models.Index(fields=["run_id"], condition=models.Q(run_id__isnull=False), name="event_run"),
        ),
    ]
