"""What `manage.py COMMAND --help` says, of every command of ours."""

from pathlib import Path

import pytest
from django.core.management import load_command_class

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    (app, file.stem)
    for app in ("checkout", "settlements")
    for file in (ROOT / app / "management" / "commands").glob("[a-z]*.py")
)


@pytest.mark.parametrize(("app", "name"), COMMANDS)
def test_every_command_shows_an_example_of_itself(app: str, name: str) -> None:
    told = load_command_class(app, name).create_parser("manage.py", name).format_help()

    examples = " ".join(told.lower().partition("example")[2].split())
    assert f"manage.py {name}" in examples
