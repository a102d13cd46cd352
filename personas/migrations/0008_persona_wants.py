from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("personas", "0007_chat_teams")]
    operations = [
        migrations.AddField(
            model_name="persona",
            name="wants",
            field=models.JSONField(
                default=list,
                help_text="tools it was made for and is not lent yet, as personas.wishes reads them",
            ),
        ),
    ]
