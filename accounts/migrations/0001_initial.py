import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import audit.ids


class Migration(migrations.Migration):
    initial = True
    dependencies = [("audit", "0001_clock")]

    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "email",
                    models.EmailField(
                        error_messages={"unique": "This address has an account already."}, max_length=254, unique=True
                    ),
                ),
                ("name", models.CharField(blank=True, max_length=80)),
                ("zone", models.CharField(default="UTC", help_text="IANA name", max_length=64)),
                (
                    "theme",
                    models.CharField(
                        choices=[("system", "Same as the system"), ("light", "Light"), ("dark", "Dark")],
                        default="system",
                        max_length=6,
                    ),
                ),
                ("is_active", models.BooleanField(default=True)),
                ("is_staff", models.BooleanField(default=False)),
                ("date_joined", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.SlugField(unique=True)),
                ("name", models.CharField(max_length=40)),
                ("monthly_credits", models.PositiveIntegerField()),
                ("position", models.PositiveSmallIntegerField(default=0)),
            ],
            options={
                "ordering": ["position"],
            },
        ),
        migrations.CreateModel(
            name="Team",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=60)),
                ("slug", models.SlugField(unique=True)),
                ("zone", models.CharField(default="UTC", help_text="IANA name; reports use it", max_length=64)),
                ("is_demo", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField()),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="teams", to="accounts.plan"
                    ),
                ),
            ],
            options={
                "ordering": ["name", "id"],
            },
        ),
        migrations.CreateModel(
            name="CreditAccount",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("period", models.DateField(help_text="first day of the month")),
                ("granted", models.PositiveIntegerField()),
                ("reserved", models.PositiveIntegerField(default=0)),
                ("spent", models.PositiveIntegerField(default=0)),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="credit_accounts", to="accounts.team"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="OneTimeLink",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "purpose",
                    models.CharField(choices=[("sign_in", "Sign in"), ("first_owner", "First owner")], max_length=11),
                ),
                ("token_sha256", models.CharField(max_length=64, unique=True)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="one_time_links",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("purpose", "sign_in"), ("user__isnull", False)),
                            models.Q(("purpose", "first_owner"), ("user", None)),
                            _connector="OR",
                        ),
                        name="only_sign_in_links_name_a_person",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("admin", "Admin"),
                            ("builder", "Builder"),
                            ("member", "Member"),
                            ("auditor", "Auditor"),
                        ],
                        max_length=8,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="memberships", to="accounts.team"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("team", "user"), name="one_membership_per_person"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["owner", "admin", "builder", "member", "auditor"])),
                        name="membership_role_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("admin", "Admin"),
                            ("builder", "Builder"),
                            ("member", "Member"),
                            ("auditor", "Auditor"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "email",
                    models.EmailField(
                        blank=True,
                        help_text="only this address may accept; empty: whoever has the link",
                        max_length=254,
                    ),
                ),
                ("token_sha256", models.CharField(db_index=True, max_length=64)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("accepted_at", models.DateTimeField(null=True)),
                ("revoked_at", models.DateTimeField(null=True)),
                (
                    "accepted_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "invited_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="invitations", to="accounts.team"
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-id"],
                "constraints": [
                    models.UniqueConstraint(fields=("team", "token_sha256"), name="one_invitation_per_token"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["owner", "admin", "builder", "member", "auditor"])),
                        name="invitation_role_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("accepted_at", None), ("accepted_by", None)),
                            models.Q(("accepted_at__isnull", False), ("accepted_by__isnull", False)),
                            _connector="OR",
                        ),
                        name="invitation_accepted_at_and_by_go_together",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("accepted_at", None), ("revoked_at", None), _connector="OR"),
                        name="invitation_accepted_or_revoked",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CreditEntry",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("grant", "Granted"),
                            ("reserve", "Reserved"),
                            ("settle", "Settled"),
                            ("release", "Released"),
                        ],
                        max_length=8,
                    ),
                ),
                ("credits", models.PositiveIntegerField()),
                ("call_id", models.UUIDField(null=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="entries", to="accounts.creditaccount"
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="credit_entries", to="accounts.team"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "reserve")),
                        fields=("team", "call_id"),
                        name="one_reservation_per_call",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("kind__in", ["settle", "release"])),
                        fields=("team", "call_id"),
                        name="one_end_per_call",
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="creditaccount",
            constraint=models.UniqueConstraint(fields=("team", "period"), name="one_credit_account_per_month"),
        ),
        migrations.AddConstraint(
            model_name="creditaccount",
            constraint=models.CheckConstraint(
                condition=models.Q(("reserved__gte", 0), ("spent__gte", 0), ("granted__gte", models.F("reserved"))),
                name="credit_account_reserved_within_granted",
            ),
        ),
    ]
