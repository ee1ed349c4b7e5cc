"""The command line of the local stack: `python -m devstack up|demo|down|status|logs|env`."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

from devstack import preflight, stack
from devstack.control import NotRunning, ask, socket_path
from devstack.postgres import NoBinaries
from devstack.process import tail
from devstack.state import AlreadyRunning, locked
from devstack.supervisor import PortTaken, StartFailed, Supervisor

EXAMPLES = """examples:
  python -m devstack up                 start everything, show the demonstration, stay until Ctrl-C
  python -m devstack up --bare          the same without the demonstration
  python -m devstack demo               the demonstration in a stack of its own; its exit code
  python -m devstack logs worker        the last lines of one process
  eval "$(python -m devstack env)"      then `python manage.py …` speaks to the running stack
"""
DOWN_SECONDS = 60


class Refused(Exception):
    """What preflight found, one line each."""


# What a person can mend: one line, no traceback.
PROBLEMS = (AlreadyRunning, stack.BadPort, NoBinaries, NotRunning, PortTaken, Refused, StartFailed)


def main(arguments: list[str]) -> int:
    """Carry out one command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except PROBLEMS as problem:
        print(f"error: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m devstack",
        description="The local stack: PostgreSQL, SQS, Kafka, the sandbox processor and our own processes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="start everything and stay until Ctrl-C")
    start.add_argument("--bare", action="store_true", help="without the demonstration")
    start.set_defaults(run=up)
    commands.add_parser(
        "demo", help="the demonstration, from nothing, with an exit code"
    ).set_defaults(run=demo)
    commands.add_parser("down", help="stop a running stack").set_defaults(run=down)
    commands.add_parser("status", help="what runs").set_defaults(run=status)
    show = commands.add_parser("logs", help="the last lines of every process, or of one")
    show.add_argument("name", nargs="?", default="*")
    show.set_defaults(run=logs)
    commands.add_parser("env", help="the variables of the running stack, for a shell").set_defaults(
        run=env
    )
    return made


def up(options: argparse.Namespace) -> int:
    opened = opened_stack(home=stack.state_folder(), ports=stack.fixed_ports())
    command = () if options.bare else ("demonstrate", "--keep")
    return Supervisor(
        stack.services(opened, demonstrate=command),
        home=opened.home,
        greeting=stack.greeting(opened),
    ).run()


def demo(_: argparse.Namespace) -> int:
    """A folder of its own, emptied first; kept only when something failed, for its logs."""
    opened = opened_stack(home=stack.state_folder(purpose="-demo"), ports=stack.free_ports())
    code = Supervisor(
        stack.services(opened, demonstrate=("demonstrate",), sign_ins=False),
        home=opened.home,
        exit_with="demonstration",
        quiet=True,
        fresh=True,
    ).run()
    if code:
        print(f"the demonstration failed; logs are in {opened.home / 'logs'}", file=sys.stderr)
    else:
        shutil.rmtree(opened.home, ignore_errors=True)
    return code


def opened_stack(*, home: Path, ports: dict[str, int]) -> stack.Stack:
    opened = stack.open_stack(home=home, ports=ports)
    if problems := preflight.before_start(home=home):
        raise Refused("; ".join(problems))
    return opened


def down(_: argparse.Namespace) -> int:
    """Ask the supervisor to stop and wait until it has."""
    home = stack.state_folder()
    try:
        pid = ask(socket_path(home), "down")["pid"]
    except NotRunning:
        print("nothing runs")
        return 0
    print(f"stopping pid {pid}", flush=True)
    deadline = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < deadline:
        try:
            with locked(home):
                print("stopped")
                return 0
        except AlreadyRunning:
            time.sleep(0.1)
    print(f"error: pid {pid} still runs after {DOWN_SECONDS} s", file=sys.stderr)
    return 1


def status(_: argparse.Namespace) -> int:
    """A line for each process; exit code 0 only when everything is up."""
    found = ask(socket_path(stack.state_folder()), "status")
    for name, one in found["services"].items():
        pid = one["pid"] or "-"
        print(
            f"{name:<14} {one['state']:<10} pid {pid:<8} starts {one['starts']:<4} {one['seconds']:.0f} s"
        )
    return 0 if found["ready"] else 1


def logs(options: argparse.Namespace) -> int:
    """Print the last 20 lines of each log that fits."""
    for log in sorted((stack.state_folder() / "logs").glob(f"{options.name}.log")):
        print(f"== {log}\n{tail(path=log, lines=20)}")
    return 0


def env(_: argparse.Namespace) -> int:
    """Print `export` lines for a shell."""
    home = stack.state_folder()
    opened = stack.open_stack(home=home, ports=stack.ports_of(home))
    for name, value in sorted(stack.environment(opened).items()):
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
