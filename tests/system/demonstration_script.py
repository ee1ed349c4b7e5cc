"""The demonstration in small, in a stack of its own: `python -m tests.system.demonstration_script HOME`.

A process of its own, since the supervisor takes over the signals. Its exit code is the demonstration's.
"""

import sys
from pathlib import Path

from devstack import stack
from devstack.supervisor import Supervisor


def main(home: Path) -> int:
    opened = stack.open_stack(home=home, ports=stack.free_ports())
    return Supervisor(
        stack.services(opened, demonstrate=("demonstrate", "--small")),
        home=home,
        exit_with="demonstration",
        quiet=True,
        fresh=True,
    ).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
