from django.db import migrations, models
from django.db.models import F, Q

PRO = "For teams that outgrow Starter: 250,000 for every member. All tools."
PACKS = [("pack-10k", "Pack of 10,000", 10_000), ("pack-100k", "Pack of 100,000", 100_000)]


def describe_pro(apps, schema_editor):
    apps.get_model("accounts", "Plan").objects.filter(key="pro").update(per_seat=True, about=PRO)


def add_packs(apps, schema_editor):
    Pack = apps.get_model("accounts", "Pack")
    Pack.objects.bulk_create(
        Pack(key=key, name=name, credits=credits, position=position)
        for position, (key, name, credits) in enumerate(PACKS)
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_ledger")]
    operations = [
        migrations.CreateModel(
            "Pack",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.SlugField(unique=True)),
                ("name", models.CharField(max_length=40)),
                ("credits", models.PositiveIntegerField()),
                ("position", models.PositiveSmallIntegerField(default=0)),
            ],
            {"ordering": ["position"]},
        ),
        migrations.AddField("plan", "per_seat", models.BooleanField(default=False)),
        migrations.AddField(
            "plan",
            "read_credits",
            models.PositiveIntegerField(default=1, help_text="what a call takes that asks no model"),
        ),
        migrations.AddField(
            "plan",
            "model_credits",
            models.PositiveIntegerField(default=2, help_text="what a call to a model takes, without its tokens"),
        ),
        migrations.AddField(
            "plan",
            "tokens_per_credit",
            models.PositiveIntegerField(
                default=1000, help_text="a call to a model takes 1 more for so many tokens, in and out"
            ),
        ),
        migrations.AddConstraint(
            "plan",
            models.CheckConstraint(condition=Q(tokens_per_credit__gt=0), name="plan_counts_by_at_least_one_token"),
        ),
        migrations.AlterField(
            "creditaccount", "granted", models.PositiveIntegerField(help_text="by the plan and by packs")
        ),
        migrations.AddField(
            "creditaccount",
            "packs",
            models.PositiveIntegerField(default=0, help_text="the part of it that packs added"),
        ),
        migrations.AddConstraint(
            "creditaccount",
            models.CheckConstraint(condition=Q(granted__gte=F("packs")), name="credit_account_packs_within_granted"),
        ),
        migrations.AddField(
            "creditentry",
            "note",
            models.CharField(blank=True, default="", help_text="which pack", max_length=80),
            preserve_default=False,
        ),
        migrations.AlterField(
            "creditentry",
            "kind",
            models.CharField(
                choices=[
                    ("grant", "Granted"),
                    ("pack", "Pack added"),
                    ("reserve", "Reserved"),
                    ("settle", "Settled"),
                    ("release", "Released"),
                ],
                max_length=8,
            ),
        ),
        migrations.RunPython(describe_pro, migrations.RunPython.noop),
        migrations.RunPython(add_packs, migrations.RunPython.noop),
    ]
