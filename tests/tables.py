"""All tables empty again: after a test that commits, between two schedules of the simulation or two worlds of kills.

Django's `flush` truncates, a third of a second for all tables whatever is in them; most tests that commit take less
themselves. So rows are deleted. A deleted row stays in its page until somebody vacuums, and of a table that was
analyzed in that state PostgreSQL believes that its pages hold nothing, however full they are by now: a pass over
40 000 charges then took ten minutes. Hence a table of which a count is known is truncated, which forgets it, and
under the tests nobody counts by himself.
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


def leave_uncounted() -> None:
    """Keep autovacuum from the tables of this database: a test that wants its rows counted says ANALYZE."""
    with connection.cursor() as cursor:
        cursor.execute(_LEAVE_UNCOUNTED)


def empty_tables() -> None:
    """Leave no row but those of KEPT, past all triggers, in one round trip and one transaction.

    The marks go last: those of these very deletions are written all the same.
    """
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY, {"kept": list(KEPT), "guarded": list(GUARDED), "large": LARGE_BYTES})


_LEAVE_UNCOUNTED: Final = """
    DO $do$
    DECLARE
      name regclass;
    BEGIN
      FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name);
      END LOOP;
    END
    $do$
"""

# Past `reltuples` -1 a count is known.
_EMPTY: Final = """
    DO $do$
    DECLARE
      each record;
    BEGIN
      SET LOCAL session_replication_role = replica;
      FOR each IN
        SELECT oid::regclass AS name,
          relname = ANY (%(guarded)s) OR reltuples >= 0 OR pg_relation_size(oid) > %(large)s AS is_truncated
        FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
          AND relname <> ALL (%(kept)s) AND pg_relation_size(oid) > 0
        ORDER BY relname = 'reconcile_dirty', relname
      LOOP
        IF each.is_truncated THEN
          EXECUTE format('TRUNCATE %%s CASCADE', each.name);
        ELSE
          EXECUTE format('DELETE FROM %%s', each.name);
        END IF;
      END LOOP;
      DELETE FROM reconcile_dirty;
    END
    $do$
"""
