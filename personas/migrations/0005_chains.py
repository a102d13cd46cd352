import django.contrib.postgres.fields
from django.db import migrations, models
from django.db.models import Q

# What is named once is a chain of one; an empty name is none.
TO_CHAIN = """
UPDATE personas_personaversion
   SET chain = array_remove(array_remove(ARRAY[model, fallback_model], ''), NULL)
"""
FROM_CHAIN = """
UPDATE personas_personaversion
   SET model = coalesce(chain[1], ''), fallback_model = coalesce(chain[2], '')
"""


class Migration(migrations.Migration):
    dependencies = [("personas", "0004_limit_teams")]
    operations = [
        migrations.AddField(
            model_name="personaversion",
            name="chain",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200),
                blank=True,
                default=list,
                help_text="models, or patterns of them; best first",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="personaversion",
            name="routing",
            field=models.CharField(
                choices=[
                    ("order", "In the order given"),
                    ("cheapest", "The cheapest that fits"),
                    ("fastest", "The fastest that fits"),
                    ("largest", "The largest context that fits"),
                    ("choose", "Let the persona choose among those that fit"),
                ],
                default="order",
                max_length=8,
            ),
        ),
        migrations.RunSQL(TO_CHAIN, FROM_CHAIN),
        migrations.RemoveField(model_name="personaversion", name="model"),
        migrations.RemoveField(model_name="personaversion", name="fallback_model"),
        migrations.AddConstraint(
            model_name="personaversion",
            constraint=models.CheckConstraint(condition=Q(chain__len__lte=6), name="chain_is_short"),
        ),
        migrations.AddField(
            model_name="flow",
            name="checked_at",
            field=models.DateTimeField(help_text="when its models were last held against the catalog", null=True),
        ),
    ]
