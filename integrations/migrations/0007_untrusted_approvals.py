from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("integrations", "0006_pace")]
    operations = [
        migrations.AddField(
            model_name="approval",
            name="untrusted",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="words of strangers were in the conversation when it was asked for",
            ),
        ),
    ]
