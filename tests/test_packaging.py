"""What is shipped is whole: the lock, the entry points, the image and the Compose file."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.load import load_pipeline

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-runtime.lock")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors resolved."""
    document: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return document


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_every_package_with_hashes_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE)
    pins = re.findall(r"^(\S+)==\S+.*\\\n    --hash=sha256:", text, flags=re.MULTILINE)
    entries = re.findall(r"^([a-z0-9][^\s=<>!~]*)", text, flags=re.MULTILINE)
    assert pins == entries
    assert len(pins) > 40


def test_the_lock_holds_every_dependency_in_a_version_that_suits(project: dict[str, Any]) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    pinned = _pins("requirements.lock")
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_production_gets_the_versions_that_are_tested() -> None:
    tested = _pins("requirements.lock")
    assert {name: version for name, version in _pins("requirements-runtime.lock").items() if tested.get(name) != version} == {}


def test_what_is_installed_is_what_the_lock_says() -> None:
    installed = {name: importlib.metadata.version(name) for name in ("bytewax", "duckdb", "great-expectations", "psycopg", "pyarrow")}
    pinned = _pins("requirements.lock")
    assert installed == {name: pinned[name] for name in installed}


def test_entry_points_load_what_they_name(project: dict[str, Any]) -> None:
    for group, names in project["entry-points"].items():
        for name, target in names.items():
            loaded = importlib.metadata.EntryPoint(name, target, group).load()
            assert isinstance(loaded, type), target
    assert callable(importlib.metadata.EntryPoint("sluice", project["scripts"]["sluice"], "console_scripts").load())


def test_the_installed_program_answers() -> None:
    program = Path(sys.executable).with_name("sluice")
    answer = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "run" in answer.stdout


def test_a_wheel_holds_every_room_and_the_data_of_the_examples(tmp_path: Path, project: dict[str, Any]) -> None:
    import zipfile

    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"sluice_cdc-{project['version']}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "cli", "examples", "sources", "sinks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [name for name in tracked.stdout.split() if name not in names] == []


def test_every_service_has_a_health_check(compose: dict[str, Any]) -> None:
    assert {name for name, service in compose["services"].items() if not service["healthcheck"]["test"]} == set()
    assert set(compose["services"]) == {"source", "eu", "ingest", "deliver-warehouse", "deliver-eu"}


def test_every_process_has_a_service_whose_health_check_asks_its_port(compose: dict[str, Any]) -> None:
    file = ROOT / "examples" / "compose" / "pipeline.yaml"
    pipeline = load_pipeline(file, {"PORTAL_DSN": "host=source dbname=portal", "EU_DSN": "host=eu dbname=eu"})
    services = {service["command"][-1]: service for service in compose["services"].values() if "build" in service}
    assert set(services) == set(pipeline.monitoring) == {"ingest", "deliver:warehouse", "deliver:eu"}
    for process, (host, port) in pipeline.monitoring.items():
        assert host == "0.0.0.0"
        assert f"//127.0.0.1:{port}/health" in services[process]["healthcheck"]["test"][-1]


def test_the_commands_of_the_services_are_ones_that_the_program_has(compose: dict[str, Any]) -> None:
    import typer

    from cli.main import app

    root: Any = typer.main.get_command(app)
    for service in compose["services"].values():
        if "build" in service:
            name, *arguments = service["command"]
            context = root.commands[name].make_context(name, list(arguments), resilient_parsing=False)
            assert context.params["only"] == arguments[-1]


def test_the_pipeline_file_of_the_services_is_sound(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    shutil.copy(ROOT / "examples" / "compose" / "pipeline.yaml", file)
    environment = {**os.environ, "PORTAL_DSN": "host=source dbname=portal", "EU_DSN": "host=eu dbname=eu"}
    answer = subprocess.run(
        [sys.executable, "-m", "cli", "check", file], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_files_that_the_services_mount_and_the_image_copies_are_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            origin = volume.split(":")[0]
            assert (ROOT / origin).is_file() if origin.startswith("./") else origin in compose["volumes"]
    ignored = (ROOT / ".dockerignore").read_text().split()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert [name for name in allowed if not (ROOT / name).exists()] == []
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(rooms) <= set(allowed)


def test_the_scripts_of_the_house_are_sound_shell() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
    for target in ("setup", "demo", "test", "check", "bench", "docs", "soak", "clean"):
        subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, check=True, capture_output=True)


def _pins(lock: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return dict(found)
