from django.db import migrations, models

ABOUT = {"starter": "Free. All tools.", "pro": "For teams that outgrow Starter. All tools."}

APPEND_ONLY = """
CREATE FUNCTION accounts_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER accounts_creditentry_append_only BEFORE UPDATE OR DELETE ON accounts_creditentry
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse();
"""

CHANGEABLE = """
DROP TRIGGER accounts_creditentry_append_only ON accounts_creditentry;
DROP FUNCTION accounts_refuse();
"""


def describe_plans(apps, schema_editor):
    for key, about in ABOUT.items():
        apps.get_model("accounts", "Plan").objects.filter(key=key).update(about=about)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_plans")]
    operations = [
        migrations.AddField(
            "plan",
            "about",
            models.CharField(
                blank=True, default="", help_text="what it costs and includes, in a sentence or two", max_length=120
            ),
            preserve_default=False,
        ),
        migrations.AddIndex(
            "creditentry",
            models.Index(fields=["account", "-at", "-id"], name="credit_entry_newest"),
        ),
        migrations.RunSQL(APPEND_ONLY, CHANGEABLE),
        migrations.RunPython(describe_plans, migrations.RunPython.noop),
    ]
