"""What deploys Deltatape says what the command line understands, and is what its specification allows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from deltatape import settings
from deltatape.cli.app import build
from deltatape.parts import Part

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted((ROOT / "deploy").glob("*.service"))
OURS = ("migrate", "roles", "collector", "signals", "alerts", "telegram")
ONCE = ("migrate", "roles")


@pytest.fixture(scope="module")
def compose():
    return YAML(typ="safe").load(ROOT / "docker-compose.yml")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    # Reading settings says where numba keeps its code: not for the tests that follow.
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))


def unit_commands(path):
    found = re.findall(r"^Exec\w+=(\S+) (.*)$", path.read_text(), re.MULTILINE)
    assert all(program.endswith("/bin/deltatape") for program, _ in found)
    return [shlex.split(arguments) for _, arguments in found]


def parse(arguments):
    """What the command line makes of it, without running it."""
    group = typer.main.get_command(build([arguments[0]]))
    context = group.make_context("deltatape", list(arguments))
    while hasattr(group, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, group, rest = group.resolve_command(context, rest)
        context = group.make_context(name, rest, parent=context)
    return context.params


def check(path):
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [program, "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_compose_meets_its_specification(tmp_path):
    done = check(ROOT / "docker-compose.yml")
    assert done.returncode == 0, done.stdout
    # The check can fail.
    wrong = tmp_path / "docker-compose.yml"
    text = (ROOT / "docker-compose.yml").read_text()
    wrong.write_text(text.replace("condition: service_healthy", "condition: service_happy"))
    assert check(wrong).returncode == 1


def test_each_service_restarts_is_watched_and_keeps_no_secret(compose):
    services = compose["services"]
    assert set(services) == {"db", *OURS}
    secret = re.compile(r"\$\{DELTATAPE_(DB|WRITER|READER)_PASSWORD:\?")
    for name, service in services.items():
        assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")
        assert service["logging"]["options"]["max-size"]
        passwords = [value for key, value in service["environment"].items() if key.endswith("PASSWORD")]
        assert [value for value in passwords if not secret.match(value)] == []
        assert len(passwords) == (3 if name == "roles" else 1)
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    assert services["db"]["healthcheck"]["test"][1] == "pg_isready"
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    assert services["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"
    assert services["roles"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    for name in set(OURS) - set(ONCE):
        waits = services[name]["depends_on"]
        assert waits["db"]["condition"] == "service_healthy"
        assert waits["roles"]["condition"] == "service_completed_successfully"
        assert "healthcheck" not in services[name], "the image's own is in force"
    mounted = {volume.split(":")[0] for name in OURS for volume in services[name]["volumes"] if ":" in volume}
    assert mounted <= set(compose["volumes"])


def test_who_only_fills_tables_is_not_their_owner(compose):
    for name in OURS:
        environment = compose["services"][name]["environment"]
        is_writer = "//deltatape_writer@" in environment["DELTATAPE_DATABASE_URL"]
        assert is_writer == (name in ("collector", "alerts", "telegram"))
        assert environment["PGPASSWORD"].startswith(
            f"${{DELTATAPE_{'WRITER' if is_writer else 'DB'}_PASSWORD:?"
        )


def test_every_variable_of_compose_stands_in_the_example():
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = (ROOT / ".env.example").read_text()
    assert {name for name in named if not re.search(rf"^(# )?{name}=", example, re.MULTILINE)} == set()


def test_the_commands_are_understood(compose):
    for name in OURS:
        parse(compose["services"][name]["command"])
    for path in UNITS:
        for arguments in unit_commands(path):
            parse(arguments)
    with pytest.raises(Exception, match="option"):
        parse(["up", "--onyl", "collector"])


def test_the_containers_do_together_what_the_private_set_up_does(compose):
    commands = [compose["services"][name]["command"] for name in OURS]
    assert commands[:2] == [["db", "upgrade"], ["db", "roles"]]
    apart = [parse(arguments) for arguments in commands[2:]]
    ran = [part for params in apart for part in params["only"]]
    assert sorted(ran) == sorted(Part), "each part once"
    private = unit_commands(ROOT / "deploy" / "deltatape.service")
    assert private[0] == commands[0]
    whole = parse(private[1])
    assert not whole["only"]
    for params in apart:
        assert {key: value for key, value in params.items() if key != "only"} == {
            key: value for key, value in whole.items() if key != "only"
        }


def test_the_manual_names_the_same_commands(compose):
    manual = (ROOT / "docs" / "operations.md").read_text()
    for name in OURS:
        assert f"deltatape {shlex.join(compose['services'][name]['command'])}\n" in manual
    for arguments in unit_commands(ROOT / "deploy" / "deltatape.service"):
        assert f"deltatape {shlex.join(arguments)}\n" in manual
    blocks = re.findall(r"^deltatape (.*)$", manual, re.MULTILINE)
    for line in blocks:
        parse(shlex.split(line))


def test_the_manual_names_every_metric():
    from deltatape import endpoint

    manual = (ROOT / "docs" / "operations.md").read_text()
    for name in endpoint._COUNTERS:
        assert f"_{name}_total`" in manual
    for name in (*endpoint._GAUGES, *endpoint._LAGS):
        assert f"_{name}" in manual


def test_the_example_settings_are_sound(monkeypatch):
    example = ROOT / "deploy" / "deltatape.example.toml"
    monkeypatch.setenv("DELTATAPE_CONFIG", str(example))
    found = settings.load()
    assert [options.exchange for options in found.collect] == ["kraken", "binance"]
    assert found.endpoint.listen is not None
    for page in ("operations", "lifecycle", "signals", "telegram"):
        manual = (ROOT / "docs" / f"{page}.md").read_text()
        for block in re.findall(r"```toml\n(.*?)```", manual, re.DOTALL):
            settings.Settings(**tomllib.loads(block))


def test_what_is_commented_out_in_the_example_is_sound(monkeypatch, tmp_path):
    example = (ROOT / "deploy" / "deltatape.example.toml").read_text()
    whole = tmp_path / "deltatape.toml"
    whole.write_text(re.sub(r"^# (\[.*\]|\w+ = .*)$", r"\1", example, flags=re.MULTILINE))
    monkeypatch.setenv("DELTATAPE_CONFIG", str(whole))
    found = settings.load()
    assert found.tier.url is not None
    assert [(options.table, options.days) for options in found.retain] == [("trades", 90)]


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch, tmp_path):
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setenv("DELTATAPE_DEADMAN__URL", "")
    assert settings.load().deadman.url is None
    monkeypatch.setenv("DELTATAPE_DEADMAN__URL", "https://example.org/x")
    assert settings.load().deadman.url.get_secret_value() == "https://example.org/x"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_the_units_are_sound(tmp_path):
    for path in UNITS:
        # It wants to see the program.
        program = Path(sys.executable).parent
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/deltatape/.venv/bin", str(program)))
    command = ["systemd-analyze", "verify", *(tmp_path / path.name for path in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in done.stderr.splitlines() if any(path.name in line for path in UNITS)]
    assert (done.returncode, ours) == (0, [])
    wrong = tmp_path / "wrong.service"
    wrong.write_text((tmp_path / "deltatape.service").read_text().replace("Type=simple", "Typo=simple"))
    done = subprocess.run(["systemd-analyze", "verify", wrong], capture_output=True, text=True, check=False)
    assert "Typo" in done.stderr
