import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import audit.ids
from audit.schema import team_reference


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_team_starts"),
        ("integrations", "0011_policy_rules_before"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Consent",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("integration", models.CharField(max_length=40)),
                ("label", models.CharField(help_text="of the connection to be", max_length=80)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("answered", "Answered"),
                            ("asking", "Asking"),
                            ("done", "Done"),
                            ("denied", "Denied"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=8,
                    ),
                ),
                ("reason", models.CharField(blank=True, help_text="why there will be no connection", max_length=300)),
                ("challenge", models.CharField(help_text="S256 of the verifier, RFC 7636", max_length=43)),
                (
                    "verifier_sealed",
                    models.BinaryField(help_text="to the workers' public key; gone once used", null=True),
                ),
                ("code_sealed", models.BinaryField(help_text="to the workers' public key; gone once used", null=True)),
                ("created_at", models.DateTimeField()),
                ("changed_at", models.DateTimeField()),
                (
                    "by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "connection",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="integrations.connection",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="consents", to="accounts.team"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ("waiting", "answered", "asking"))),
                        fields=["changed_at"],
                        name="consents_under_way",
                    )
                ],
            },
        ),
        team_reference("integrations_consent", "connection_id", "integrations_connection"),
    ]
