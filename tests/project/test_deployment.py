"""docker-compose.yml, Dockerfile and .env.example name only what exists, and all of it."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import current_app
from django.core.management import get_commands

from project.processes import PROCESSES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "carillon"}
# What compose fills in at the places that project/processes.py leaves open.
IN_A_CONTAINER = {
    "host": "0.0.0.0",
    "port": "8000",
    "flower_port": "5555",
    "web_processes": "${WORKERS:-1}",
    "worker_processes": "${WORKER_PROCESSES:-2}",
}
# Read by programs, not by settings.py.
FOREIGN = {"CELERY_SKIP_CHECKS", "REMAP_SIGTERM"}


def variables_of(file: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / file).read_text()))


READ_BY_SETTINGS = variables_of("project/settings.py", r'(?:env(?:\.\w+)?|required)\(\s*"([A-Z_]+)"')
READ_BY_MAKE_RUN = variables_of("project/stack.py", r'"(DATA_DIR|WORKERS|[A-Z_]*PORT)"')
READ_BY_COMPOSE = variables_of("docker-compose.yml", r"(?<!\$)\$\{([A-Z_]+)")
EXPLAINED = variables_of(".env.example", r"(?m)^(?:# )?([A-Z_]+)=")


def test_compose_runs_every_process_and_nothing_else() -> None:
    assert set(OURS) == (set(PROCESSES) - {"inbox"}) | {"migrate"}
    assert set(SERVICES) - set(OURS) == {"postgres", "redis", "mailpit"}


@pytest.mark.parametrize("name", sorted(set(OURS) - {"migrate"}))
def test_compose_says_the_same_command_as_make_run(name: str) -> None:
    assert shlex.split(OURS[name]["command"]) == PROCESSES[name].words(**IN_A_CONTAINER)
    assert PROCESSES[name].variables.items() <= OURS[name]["environment"].items()


def test_the_image_by_itself_runs_web() -> None:
    (command,) = re.findall(r"(?m)^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text())
    assert json.loads(command) == PROCESSES["web"].words(**IN_A_CONTAINER | {"web_processes": "1"})


@pytest.mark.parametrize(
    "words",
    [
        *(shlex.split(service["command"]) for service in OURS.values()),
        *(service["healthcheck"]["test"][1:] for service in OURS.values() if "test" in service.get("healthcheck", {})),
    ],
    ids=" ".join,
)
def test_what_a_command_names_exists(words: list[str]) -> None:
    program, *rest = words
    if program == "python" and rest[0] == "manage.py":
        assert rest[1] in get_commands()
    elif program == "python":
        compile(rest[rest.index("-c") + 1], "healthcheck", "exec")
    else:
        importlib.import_module(program)
    for module in (word for word in rest if word.startswith("project.")):
        name, _, attribute = module.partition(":")
        assert hasattr(importlib.import_module(name), attribute)
    for file in (word.partition("=")[2] for word in rest if word.startswith("--conf=")):
        assert (ROOT / file).exists()


def test_the_queues_that_are_worked_on_are_the_queues_there_are() -> None:
    worked_on = [
        queue
        for service in OURS.values()
        if "-Q" in (words := shlex.split(service["command"]))
        for queue in words[words.index("-Q") + 1].split(",")
    ]
    assert sorted(worked_on) == sorted(current_app.amqp.queues)


def test_every_variable_is_explained_and_every_explained_one_is_read() -> None:
    assert EXPLAINED == READ_BY_SETTINGS | READ_BY_MAKE_RUN | READ_BY_COMPOSE


def test_a_container_is_told_nothing_that_nobody_reads() -> None:
    told = {name for service in OURS.values() for name in service["environment"]}
    assert told - FOREIGN <= READ_BY_SETTINGS


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|AUTH", name):
                assert value.startswith("${"), name
                assert ":?" in value, f"{name} has to be required, not defaulted"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_unprivileged_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert not service.get("privileged")
    if name in OURS:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_whoever_is_waited_for_says_when_it_is_ready() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"]
            else:
                assert (needed, how["condition"]) == ("migrate", "service_completed_successfully")


def test_the_named_volumes_are_declared() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_the_image_runs_as_nobody_special_with_the_locked_uv() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"(?m)^USER (.+)$", dockerfile) == ["carillon"]
    assert "HEALTHCHECK" in dockerfile
    (version,) = re.findall(r"ARG UV_VERSION=(.+)", dockerfile)
    assert f"\nuv=={version}\n" in (ROOT / "requirements-dev.txt").read_text()
    for copied in re.findall(r"(?m)^COPY (?!--from)(\S+) ", dockerfile):
        assert (ROOT / copied).exists()


def test_secrets_and_local_data_stay_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".data", ".git", ".venv"} <= set(ignored)
