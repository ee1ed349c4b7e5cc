"""All tables empty again, between two schedules of the simulation or two worlds of the kills.

Not between tests: a deleted row stays until it is vacuumed, and a test of 40 000 charges then got plans that were
made for none. There Django's `flush` truncates, which takes a third of a second.
"""

from typing import Final

from django.db import connection

from checkout.models import PendingMessage, PublishedMessage

# What `migrate` itself keeps, and what it makes again after a flush.
KEPT: Final = ("django_migrations", "django_content_type", "auth_permission")
# These refuse to lose a row, even past the triggers: a message is pending or published.
GUARDED: Final = tuple(model._meta.db_table for model in (PendingMessage, PublishedMessage))
# From here on a delete, and the dead rows that it leaves to the next schedule, cost more than a new file.
LARGE_BYTES: Final = 1 << 20


def empty_tables() -> None:
    """Leave no row but those of KEPT, past all triggers, in one round trip and one transaction.

    The marks go last: those of these very deletions are written all the same.
    """
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY, {"kept": list(KEPT), "guarded": list(GUARDED), "large": LARGE_BYTES})


_EMPTY: Final = """
    DO $do$
    DECLARE
      each record;
    BEGIN
      SET LOCAL session_replication_role = replica;
      FOR each IN
        SELECT oid::regclass AS name, relname = ANY (%(guarded)s) AS is_guarded, pg_relation_size(oid) AS bytes
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
          AND relname <> ALL (%(kept)s) AND pg_relation_size(oid) > 0
        ORDER BY relname = 'reconcile_dirty', relname
      LOOP
        IF each.is_guarded OR each.bytes > %(large)s THEN
          EXECUTE format('TRUNCATE %%s CASCADE', each.name);
        ELSE
          EXECUTE format('DELETE FROM %%s', each.name);
        END IF;
      END LOOP;
      DELETE FROM reconcile_dirty;
    END
    $do$
"""
