from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_team_starts"),
        ("integrations", "0007_untrusted_approvals"),
        ("personas", "0017_run_to_erase"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("trigger", "trial")), fields=["team", "-queued_at"], name="run_trial"
            ),
        ),
    ]
