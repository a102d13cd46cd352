from django.db import migrations, models

from audit.ids import uuid7


class Migration(migrations.Migration):
    dependencies = [("personas", "0013_results")]

    operations = [
        migrations.AddField(model_name="flow", name="origin", field=models.UUIDField(null=True)),
        migrations.RunSQL("UPDATE personas_flow SET origin = gen_random_uuid()", migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="flow",
            name="origin",
            field=models.UUIDField(
                default=uuid7,
                editable=False,
                help_text="the same in every export: a file that comes again changes this flow",
            ),
        ),
        migrations.AddConstraint(
            model_name="flow",
            constraint=models.UniqueConstraint(fields=("team", "origin"), name="one_flow_per_origin"),
        ),
    ]
