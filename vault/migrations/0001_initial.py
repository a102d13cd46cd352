import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import audit.ids
from audit.schema import team_key, team_reference


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Credential",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(choices=[("api_key", "API key"), ("management", "Management key")], max_length=10),
                ),
                ("label", models.CharField(max_length=80)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("posted", "Posted"),
                            ("ready", "Ready"),
                            ("revoked", "Revoked"),
                            ("unreadable", "Unreadable"),
                        ],
                        default="posted",
                        max_length=10,
                    ),
                ),
                ("prefix", models.CharField(max_length=12)),
                ("last_four", models.CharField(max_length=4)),
                (
                    "fingerprint",
                    models.CharField(blank=True, help_text="keyed; recognises a key without opening it", max_length=64),
                ),
                ("current_version", models.PositiveIntegerField(default=1)),
                ("created_at", models.DateTimeField()),
                ("revoked_at", models.DateTimeField(null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "revoked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="credentials", to="accounts.team"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("holder", models.UUIDField()),
                ("connection", models.UUIDField()),
                ("scopes", models.JSONField(default=dict, help_text="read by the integrations, not by the vault")),
                ("created_at", models.DateTimeField()),
                ("revoked_at", models.DateTimeField(null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "revoked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="grants", to="accounts.team"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="TeamKey",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "purpose",
                    models.CharField(
                        choices=[("credential", "Credential"), ("content", "Content"), ("mac", "Mac")], max_length=10
                    ),
                ),
                ("version", models.PositiveSmallIntegerField(default=1)),
                ("root_key", models.UUIDField(help_text="the root key that wraps this one; it lies in a file")),
                ("wrapped", models.BinaryField()),
                ("check_value", models.BinaryField(max_length=16)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "retired_at",
                    models.DateTimeField(help_text="a retired key still opens, but wraps nothing new", null=True),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="keys", to="accounts.team"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CredentialVersion",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("number", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("posted", "Posted"), ("active", "Active"), ("retired", "Retired")],
                        default="posted",
                        max_length=10,
                    ),
                ),
                (
                    "posted_sealed",
                    models.BinaryField(help_text="to the workers' public key; gone once adopted", null=True),
                ),
                ("data_key_id", models.UUIDField(null=True)),
                ("data_key_wrapped", models.BinaryField(null=True)),
                ("data_key_check", models.BinaryField(max_length=16, null=True)),
                ("ciphertext", models.BinaryField(null=True)),
                ("created_at", models.DateTimeField()),
                (
                    "credential",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="versions", to="vault.credential"
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="credential_versions",
                        to="accounts.team",
                    ),
                ),
                (
                    "team_key",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="credential_versions",
                        to="vault.teamkey",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ContentKey",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("subject", models.UUIDField(help_text="what an erasure would name: a persona or a user")),
                ("month", models.DateField()),
                (
                    "number",
                    models.PositiveSmallIntegerField(default=1, help_text="counts on when the key before is used up"),
                ),
                (
                    "uses",
                    models.PositiveBigIntegerField(default=0, help_text="encryptions handed out to processes so far"),
                ),
                ("wrapped", models.BinaryField()),
                ("check_value", models.BinaryField(max_length=16)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="content_keys", to="accounts.team"
                    ),
                ),
                (
                    "team_key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="content_keys", to="vault.teamkey"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="credential",
            constraint=models.UniqueConstraint(
                condition=models.Q(("revoked_at", None)), fields=("team", "label"), name="one_live_credential_per_label"
            ),
        ),
        migrations.AddConstraint(
            model_name="credential",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("revoked_at", None), ("revoked_by", None)),
                    models.Q(("revoked_at__isnull", False), ("revoked_by__isnull", False)),
                    _connector="OR",
                ),
                name="credential_revoked_at_and_by_go_together",
            ),
        ),
        migrations.AddConstraint(
            model_name="credential",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("revoked_at__isnull", False), ("state", "revoked")),
                    models.Q(models.Q(("state", "revoked"), _negated=True), ("revoked_at__isnull", True)),
                    _connector="OR",
                ),
                name="credential_state_tells_revocation",
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.UniqueConstraint(
                condition=models.Q(("revoked_at", None)), fields=("team", "holder", "connection"), name="one_live_grant"
            ),
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("revoked_at", None), ("revoked_by", None)),
                    models.Q(("revoked_at__isnull", False), ("revoked_by__isnull", False)),
                    _connector="OR",
                ),
                name="grant_revoked_at_and_by_go_together",
            ),
        ),
        migrations.AddConstraint(
            model_name="teamkey",
            constraint=models.UniqueConstraint(fields=("team", "purpose", "version"), name="one_team_key_per_version"),
        ),
        migrations.AddConstraint(
            model_name="credentialversion",
            constraint=models.UniqueConstraint(fields=("team", "credential", "number"), name="one_version_per_number"),
        ),
        migrations.AddConstraint(
            model_name="credentialversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("ciphertext__isnull", True),
                        ("data_key_wrapped__isnull", True),
                        ("posted_sealed__isnull", False),
                        ("state", "posted"),
                    ),
                    models.Q(
                        ("ciphertext__isnull", False),
                        ("data_key_check__isnull", False),
                        ("data_key_id__isnull", False),
                        ("data_key_wrapped__isnull", False),
                        ("posted_sealed__isnull", True),
                        ("state", "active"),
                        ("team_key__isnull", False),
                    ),
                    models.Q(
                        ("ciphertext__isnull", True),
                        ("data_key_wrapped__isnull", True),
                        ("posted_sealed__isnull", True),
                        ("state", "retired"),
                    ),
                    _connector="OR",
                ),
                name="version_holds_what_its_state_says",
            ),
        ),
        migrations.AddConstraint(
            model_name="contentkey",
            constraint=models.UniqueConstraint(
                fields=("team", "subject", "month", "number"), name="one_content_key_per_month"
            ),
        ),
        migrations.AddConstraint(
            model_name="contentkey",
            constraint=models.CheckConstraint(
                condition=models.Q(("uses__lte", 1073741824)), name="content_key_is_not_overused"
            ),
        ),
        team_key("vault_teamkey"),
        team_key("vault_credential"),
        team_reference("vault_contentkey", "team_key_id", "vault_teamkey"),
        team_reference("vault_credentialversion", "credential_id", "vault_credential"),
        team_reference("vault_credentialversion", "team_key_id", "vault_teamkey"),
    ]
