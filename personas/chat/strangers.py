"""Whether strangers may have ordered what a model asks for."""

from django.db import connection as database

from personas.models import Run

STRANGERS = """
WITH RECURSIVE branch AS (
    SELECT id, parent_id, run_id FROM personas_message WHERE team_id = %(team)s AND run_id = %(run)s
    UNION ALL
    SELECT up.id, up.parent_id, up.run_id
      FROM personas_message up JOIN branch ON up.id = branch.parent_id WHERE up.team_id = %(team)s
)
SELECT EXISTS (
    SELECT FROM personas_attachment file JOIN branch ON branch.id = file.message_id WHERE file.team_id = %(team)s
) OR EXISTS (
    SELECT FROM personas_stagerun stage JOIN branch ON branch.run_id = stage.run_id
     WHERE stage.team_id = %(team)s AND stage.kind = 'tool' AND stage.state = 'done'
       AND (stage.run_id <> %(run)s OR stage.position < %(before)s)
       AND EXISTS (SELECT FROM integrations_call call WHERE call.run_id = stage.run_id AND call.stage_id = stage.id)
)
"""


def has_read_strangers(run: Run, before: int) -> bool:
    """
    Whether text of strangers was in the conversation when the model asked for the calls from `before` on.

    That is a file of a member's, or what a call brought back, on this branch. What an erased text said
    may have been repeated since, so it counts as well.
    """
    answers = (
        run.stages.filter(kind="answer", position__lt=before).order_by("-position").values_list("position", flat=True)
    )
    with database.cursor() as cursor:
        cursor.execute(STRANGERS, {"team": run.team_id, "run": run.pk, "before": answers.first() or 0})
        return cursor.fetchone()[0]
