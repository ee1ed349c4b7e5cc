"""Dockerfile and compose.yaml are for people with Docker; nothing here builds them, these read them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return document


def final_stage() -> list[str]:
    """The instructions of the image that runs, with continued lines joined."""
    text = DOCKERFILE.replace("\\\n", " ")
    return text[text.rindex("\nFROM ") :].strip().splitlines()


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"

    found = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_does_not_run_as_root() -> None:
    users = [line.split()[1] for line in final_stage() if line.startswith("USER ")]

    assert users
    assert users[-1] not in {"root", "0"}


def test_nothing_is_downloaded_when_a_container_starts() -> None:
    """A restart once took seven minutes because it downloaded fonts."""
    starts = [line for line in final_stage() if line.startswith(("CMD", "ENTRYPOINT"))]

    assert len(starts) == 1
    assert not any(
        word in starts[0] for word in ("pip", "curl", "wget", "apt", "npm", "collectstatic")
    )
    assert "--require-hashes" in DOCKERFILE


def test_the_local_stack_and_the_tests_are_not_in_the_image() -> None:
    copied = [line for line in final_stage() if line.startswith("COPY ")]

    assert not any(part in line for line in copied for part in ("devstack", "tests", "dev.txt"))


def test_every_image_of_compose_is_pinned(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values() if "image" in service]

    assert images
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_compose_starts_every_process_of_the_service(compose: dict[str, Any]) -> None:
    assert {
        "web",
        "worker",
        "relay-sqs",
        "relay-kafka",
        "timetable",
        "export-worker",
        "processor",
        "prepare",
    } <= set(compose["services"])


def test_compose_publishes_on_the_loopback_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_kafka_creates_no_topic_by_itself(compose: dict[str, Any]) -> None:
    """An auto-created topic with a week of retention once filled a disk."""
    settings = compose["services"]["kafka"]["environment"]

    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
