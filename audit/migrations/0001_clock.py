from django.db import migrations

# Leases and due work ask this clock. The offset is a session setting that only tests set.
APP_NOW = """
CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT clock_timestamp() + coalesce(nullif(current_setting('app.clock_offset', true), ''), '0')::interval
$$
"""


class Migration(migrations.Migration):
    initial = True
    operations = [migrations.RunSQL(APP_NOW, "DROP FUNCTION app_now()")]
