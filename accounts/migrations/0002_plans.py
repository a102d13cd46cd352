from django.db import migrations

from audit.schema import team_key, team_reference

PLANS = [("starter", "Starter", 5_000), ("pro", "Pro", 250_000)]

# The table of Django's DatabaseCache. Sign-in counters live in it: every web process shares them,
# and a restart does not forget them.
COUNTERS = """
CREATE TABLE "accounts_counter" (
    cache_key varchar(255) PRIMARY KEY,
    value text NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX accounts_counter_expires ON accounts_counter (expires)
"""


def add_plans(apps, schema_editor):
    Plan = apps.get_model("accounts", "Plan")
    Plan.objects.bulk_create(
        Plan(key=key, name=name, monthly_credits=monthly_credits, position=position)
        for position, (key, name, monthly_credits) in enumerate(PLANS)
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        team_key("accounts_creditaccount"),
        team_reference("accounts_creditentry", "account_id", "accounts_creditaccount"),
        migrations.RunSQL(COUNTERS, 'DROP TABLE "accounts_counter"'),
        migrations.RunPython(add_plans, migrations.RunPython.noop),
    ]
