"""A small stack for the tests of the supervisor: `python devstack_script.py HOME [OPTIONS AS JSON]`.

A child with a grandchild and a set-up step that runs again after it; if asked, a web server on a port, a step
whose end is the end of all, a child that does not start, one that does not stop, one that is held; or the three real servers. Run as a script in a process of its own, since the supervisor takes over the signals.
"""

import json
import sys
from pathlib import Path

from devstack import ports, stack
from devstack.process import Process
from devstack.state import AlreadyRunning
from devstack.supervisor import PortTaken, Service, Supervisor


def main(home: Path, options: dict[str, object]) -> int:
    """Run the stack until it is told to stop."""
    if options.get("servers"):
        opened = stack.open_stack(home=home, ports=stack.free_ports())
        return Supervisor(stack.servers(opened), home=home).run()
    home.mkdir(exist_ok=True)
    port = int(str(options.get("port", 0)))
    services = [
        Service(name="family", process=shell(home, "family", "sleep 1000 & echo grown; wait")),
        Service(
            name="again",
            process=shell(home, "again", f"echo once >> {home}/again.txt"),
            once=True,
            needs=("family",),
            again_after="family",
        ),
    ]
    if port:
        services.append(web(home, port))
    if command := options.get("last"):
        services.append(
            Service(
                name="last",
                process=shell(home, "last", str(command)),
                once=True,
                needs=("family", "again"),
                tries=1,
            )
        )
    if command := options.get("broken"):
        services.append(
            Service(name="broken", process=shell(home, "broken", str(command)), tries=2)
        )
    if command := options.get("stubborn"):
        services.append(
            Service(name="stubborn", process=shell(home, "stubborn", str(command)), stop_seconds=30)
        )
    if command := options.get("held"):
        services.append(Service(name="held", process=shell(home, "held", str(command)), held=True))
    exit_with = "last" if options.get("last") else ""
    return Supervisor(services, home=home, greeting="hello reader", exit_with=exit_with).run()


def shell(home: Path, name: str, command: str):
    """A service that runs a line of shell."""
    return lambda: Process(["sh", "-c", command], log=home / "logs" / f"{name}.log")


def web(home: Path, port: int) -> Service:
    """Python's own web server."""
    words = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return Service(
        name="web",
        process=lambda: Process(words, log=home / "logs" / "web.log"),
        answers=lambda: ports.answers(port=port),
        port=("WEB_PORT", port),
    )


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
    except (AlreadyRunning, PortTaken) as problem:
        sys.exit(f"error: {problem}")
