from django.db import migrations, models

import audit.ids
from audit.months import make_months

# Partitioned by month from the first day: dropping old months must never mean deleting rows.
EVENT = """
CREATE TABLE audit_event (
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    team_id uuid,
    actor_kind varchar(10) NOT NULL,
    actor_id varchar(80) NOT NULL,
    actor_name varchar(254) NOT NULL,
    action varchar(80) NOT NULL,
    target varchar(120) NOT NULL,
    target_name varchar(254) NOT NULL,
    outcome varchar(40) NOT NULL,
    persona_id uuid,
    persona_name varchar(120) NOT NULL,
    run_id uuid,
    tool varchar(80) NOT NULL,
    model varchar(200) NOT NULL,
    call_id uuid,
    generation_id varchar(120) NOT NULL,
    request_sha256 varchar(64) NOT NULL,
    cost_usd numeric(20, 12),
    credits integer,
    content_id uuid,
    content_sha256 varchar(64) NOT NULL,
    details jsonb NOT NULL,
    canon bytea NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX event_team_at ON audit_event (team_id, at DESC, id DESC);
CREATE INDEX event_persona_at ON audit_event (team_id, persona_id, at DESC, id DESC);
CREATE INDEX event_tool_at ON audit_event (team_id, tool, at DESC, id DESC);
CREATE INDEX event_call ON audit_event (call_id);
CREATE TABLE audit_event_default PARTITION OF audit_event DEFAULT;

CREATE TABLE audit_content (
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    team_id uuid NOT NULL,
    subject uuid NOT NULL,
    kind varchar(20) NOT NULL,
    ciphertext bytea,
    sha256 varchar(64) NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE audit_content_default PARTITION OF audit_content DEFAULT;
"""

# The log says no by itself, whoever asks. Content may lose its ciphertext (erasure), nothing else.
APPEND_ONLY = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % on % refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE FUNCTION audit_only_erase() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.ciphertext IS NULL
       AND (NEW.id, NEW.at, NEW.team_id, NEW.subject, NEW.kind, NEW.sha256)
         = (OLD.id, OLD.at, OLD.team_id, OLD.subject, OLD.kind, OLD.sha256) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'content may be erased, not changed: % on % refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_content_only_erase BEFORE UPDATE OR DELETE ON audit_content
    FOR EACH ROW EXECUTE FUNCTION audit_only_erase();
"""

DROP = """
DROP TABLE audit_event;
DROP TABLE audit_content;
DROP FUNCTION audit_refuse();
DROP FUNCTION audit_only_erase();
"""

EVENT_FIELDS = [
    ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
    ("at", models.DateTimeField()),
    ("team_id", models.UUIDField(help_text="null: the installation itself", null=True)),
    ("actor_kind", models.CharField(max_length=10)),
    ("actor_id", models.CharField(max_length=80)),
    ("actor_name", models.CharField(max_length=254)),
    ("action", models.CharField(max_length=80)),
    ("target", models.CharField(blank=True, max_length=120)),
    ("target_name", models.CharField(blank=True, max_length=254)),
    ("outcome", models.CharField(blank=True, max_length=40)),
    ("persona_id", models.UUIDField(null=True)),
    ("persona_name", models.CharField(blank=True, max_length=120)),
    ("run_id", models.UUIDField(null=True)),
    ("tool", models.CharField(blank=True, max_length=80)),
    ("model", models.CharField(blank=True, max_length=200)),
    ("call_id", models.UUIDField(help_text="sent upstream as X-Request-Id", null=True)),
    ("generation_id", models.CharField(blank=True, max_length=120)),
    ("request_sha256", models.CharField(blank=True, help_text="of the exact body sent", max_length=64)),
    ("cost_usd", models.DecimalField(decimal_places=12, max_digits=20, null=True)),
    ("credits", models.IntegerField(help_text="platform credits", null=True)),
    ("content_id", models.UUIDField(null=True)),
    ("content_sha256", models.CharField(blank=True, help_text="of the sealed content", max_length=64)),
    ("details", models.JSONField(default=dict)),
    ("canon", models.BinaryField(help_text="the authoritative bytes of this event")),
]

STATE = [
    migrations.CreateModel(
        name="Event",
        fields=EVENT_FIELDS,
        options={
            "indexes": [
                models.Index(fields=["team_id", "-at", "-id"], name="event_team_at"),
                models.Index(fields=["team_id", "persona_id", "-at", "-id"], name="event_persona_at"),
                models.Index(fields=["team_id", "tool", "-at", "-id"], name="event_tool_at"),
                models.Index(fields=["call_id"], name="event_call"),
            ]
        },
    ),
    migrations.CreateModel(
        name="Content",
        fields=[
            ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
            ("at", models.DateTimeField()),
            ("team_id", models.UUIDField()),
            (
                "subject",
                models.UUIDField(help_text="what an erasure would name: a persona or a user"),
            ),
            ("kind", models.CharField(max_length=20)),
            ("ciphertext", models.BinaryField(help_text="null: erased", null=True)),
            ("sha256", models.CharField(max_length=64)),
        ],
    ),
]


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_clock")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(EVENT + APPEND_ONLY, DROP)], state_operations=STATE
        ),
        migrations.RunPython(lambda apps, editor: make_months(), migrations.RunPython.noop),
    ]
