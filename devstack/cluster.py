"""A primary and its synchronous standby: base backup, promotion, fencing.

Two servers with folders and ports of their own take turns. What stands in a failed primary's folder is
thrown away and copied anew from the one that took over: nothing of it can come back.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg

from devstack.postgres import OWNER, Postgres, binaries, server_environment
from devstack.process import NotStarted, launcher

STANDBY_NAME = "standby"
SYNCHRONOUS = f"ANY 1 ({STANDBY_NAME})"
WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.02
# Small enough for a small disk; `wal_keep_size` lets a standby that was away for a moment catch up.
PARAMETERS = {
    # Said aloud: a server for tests has it off, and then no commit waits for the standby.
    "synchronous_commit": "on",
    "wal_keep_size": "64MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "hot_standby": "on",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "500ms",
}


class NotReplicating(Exception):
    """The standby did not become synchronous in time."""


@dataclass(frozen=True)
class Hands:
    """What starts a server by its name (and returns when it answers), and what kills all of it."""

    start: Callable[[str], None]
    end: Callable[[str], None]


class Cluster:
    """Two servers by name; the first is the primary until `promote` says otherwise.

    `lead_to` is told the address (host, port) of the primary, whenever it changes.
    """

    def __init__(
        self,
        nodes: Mapping[str, Postgres],
        *,
        hands: Hands,
        lead_to: Callable[[tuple[str, int]], None] = lambda _: None,
    ) -> None:
        self.nodes = dict(nodes)
        self.hands = hands
        self.lead_to = lead_to
        self.primary, self.standby = self.nodes

    def dsn(self, dbname: str = OWNER) -> str:
        """The owner's sign-in to whichever of the two is the primary now, whatever it refuses to others."""
        password = quote(next(iter(self.nodes.values())).password, safe="")
        asked = urlencode(
            {
                "target_session_attrs": "primary",
                "connect_timeout": 3,
                # Also where every session is read-only by a setting, which this hand put there.
                "options": "-c default_transaction_read_only=off",
            },
            quote_via=quote,
        )
        return f"postgresql://{OWNER}:{password}@{self.addresses}/{dbname}?{asked}"

    @property
    def addresses(self) -> str:
        """host:port of both, comma separated, as libpq and DATABASE_URL take them."""
        return ",".join(node.address for node in self.nodes.values())

    def address(self, name: str) -> tuple[str, int]:
        """Host and port of one of the two."""
        return ("127.0.0.1", self.nodes[name].port)

    def make_standby(self) -> None:
        """Copy the primary into the standby's folder, start it, and wait until it is synchronous.

        Raises NotReplicating, NotStarted.
        """
        primary, standby = self.nodes[self.primary], self.nodes[self.standby]
        self.hands.end(self.standby)
        self.set_synchronous(wanted=False)
        base_backup(of=primary, to=standby)
        self.hands.start(self.standby)
        self._wait_for("streaming", seconds=WAIT_SECONDS)
        self.set_synchronous(wanted=True)
        self.wait_until_synchronous()

    def wait_until_synchronous(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Return when the next commit waits for the standby; raises NotReplicating."""
        self._wait_for("quorum", seconds=seconds)

    def promote(self) -> float:
        """Fence the primary, promote the standby, lead there. Returns seconds from the kill to writes.

        The primary is killed with all its backends first: an orphaned one could still commit and
        acknowledge, which would make two truths.
        """
        began = time.monotonic()
        self.hands.end(self.primary)
        self.primary, self.standby = self.standby, self.primary
        with psycopg.connect(self.nodes[self.primary].dsn(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true, %s)", [int(WAIT_SECONDS)])
            while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
                time.sleep(LOOK_SECONDS)
        self.lead_to(self.address(self.primary))
        return time.monotonic() - began

    def set_synchronous(self, *, wanted: bool) -> None:
        """Whether the primary's commits wait for the standby."""
        value = SYNCHRONOUS if wanted else ""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{value}'")
            connection.execute("SELECT pg_reload_conf()")

    def _wait_for(self, wanted: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (found := self._replication()) is None or wanted not in found:
            if time.monotonic() > deadline:
                raise NotReplicating(f"the standby is {found}, not {wanted}, after {seconds:g} s")
            time.sleep(LOOK_SECONDS)

    def _replication(self) -> tuple[str, str] | None:
        """State and synchronous state of the standby by the primary's own account."""
        try:
            with psycopg.connect(self.nodes[self.primary].dsn("postgres")) as connection:
                row = connection.execute(
                    "SELECT state, sync_state FROM pg_stat_replication WHERE application_name = %s",
                    [STANDBY_NAME],
                ).fetchone()
        except psycopg.OperationalError:
            return None
        return (row[0], row[1]) if row else None


def base_backup(*, of: Postgres, to: Postgres) -> None:
    """Replace a server's folder by a copy of a running one's, that will follow it; raises NotStarted.

    Its own `synchronous_standby_names` is empty: once promoted it must not wait for who is gone.
    """
    unfinished = to.data_dir.with_name(f"{to.data_dir.name}.new")
    for folder in (unfinished, to.data_dir):
        shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    if to.user:
        shutil.chown(unfinished, to.user)
    done = subprocess.run(
        [
            *launcher(death_signal=signal.SIGTERM, user=to.user),
            str(binaries(user=to.user) / "pg_basebackup"),
            *(f"--pgdata={unfinished}", "--host=127.0.0.1", f"--port={of.port}"),
            *(f"--username={OWNER}", "--no-password", "--checkpoint=fast", "--wal-method=stream"),
            *([] if to.fsync else ["--no-sync"]),
        ],
        env=server_environment() | {"PGPASSWORD": of.password},
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    if done.returncode:
        raise NotStarted(f"pg_basebackup ended with {done.returncode}\n{done.stderr[-2000:]}")
    follow(unfinished, of=of)
    unfinished.rename(to.data_dir)


def follow(folder: Path, *, of: Postgres) -> None:
    """Make the server of this folder a standby of that one."""
    source = {
        "host": "127.0.0.1",
        "port": of.port,
        "user": OWNER,
        "password": of.password,
        "application_name": STANDBY_NAME,
        "connect_timeout": 2,
    }
    words = " ".join(f"{name}={value}" for name, value in source.items())
    settings = folder / "postgresql.auto.conf"
    kept = [
        line
        for line in settings.read_text("utf-8").splitlines()
        if not line.startswith(("primary_conninfo", "synchronous_standby_names"))
    ]
    settings.write_text("\n".join([*kept, f"primary_conninfo = '{words}'", ""]), "utf-8")
    signal_file = folder / "standby.signal"
    signal_file.touch(mode=0o600)
    owner = folder.stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)
