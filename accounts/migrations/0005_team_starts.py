from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_seats_and_packs")]
    operations = [
        migrations.CreateModel(
            "TeamStart",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("network", models.CharField(max_length=50)),
                ("at", models.DateTimeField(db_index=True)),
            ],
        ),
    ]
