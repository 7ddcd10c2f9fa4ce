"""`deltatape db tier` and `deltatape db retain` as a user runs them."""

import json
import os

import pytest
from click.testing import CliRunner
from old_days import DAYS, days_in, write_days
from typer.main import get_command

from deltatape import settings
from deltatape.cli.app import build
from market import WrongUse
from storage.database import connect
from storage.past import TABLES
from storage.tiers import TIERED

RULES = json.dumps([{"table": "trades", "days": 30}, {"table": "candles", "days": 30, "interval": "1m"}])


OF_A = ("--exchange", "a", "--symbol", "b")


@pytest.fixture
def tape(database):
    with connect(database) as connection:
        write_days(connection)
    return database


@pytest.fixture
def ours(tmp_path):
    """A tier of trades, and what is kept for how long."""
    return {
        "DELTATAPE_TIER__URL": str(tmp_path / "tier"),
        "DELTATAPE_TIER__TABLES": '["trades"]',
        "DELTATAPE_RETAIN": RULES,
    }


def test_without_a_configuration_nothing_happens(cli):
    tier = cli("db", "tier")
    assert (tier.returncode, tier.stdout) == (2, "")
    assert "set url below [tier] in" in tier.stderr
    retain = cli("db", "retain")
    assert (retain.returncode, retain.stderr) == (0, "")
    assert "nothing is ever dropped: there is no [[retain]] in" in retain.stdout
    check = cli("db", "tier", "--check")
    assert (check.returncode, check.stdout) == (0, "the tier has no files: deltatape db tier writes them\n")


def test_old_days_are_moved_and_come_back(cli, ours, tape, tmp_path):
    early = cli("db", "retain", "--dry-run", env=ours)
    assert early.returncode == 0
    assert f"· simulated BTC/USDT trades, {DAYS} days from 2024-10-04 to 2024-10-07, kept:" in early.stdout
    assert "candles 1m" in early.stdout

    dry = cli("db", "tier", "--dry-run", env=ours)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "days that are due" in dry.stdout
    assert not (tmp_path / "tier").exists()
    copied = json.loads(cli("db", "tier", "--json", env=ours).stdout)
    assert [each["outcome"] for each in copied] == ["copied"] * DAYS + ["waiting"]
    assert copied[0]["day"] == "2024-10-04"
    assert (
        cli("db", "tier", "--check", env=ours).stdout == f"✓ {DAYS} of {DAYS} files hold what was written\n"
    )

    done = cli("db", "retain", env=ours)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dropped from the database" in done.stdout
    proof = cli("verify", "--to", "2024-10-07", env=ours)
    assert proof.returncode == 0
    assert "no day of that time is in the database any more" in proof.stdout
    assert "simulated BTC/USDT: 3 days from 2024-10-04 to 2024-10-06 have left" in proof.stdout
    back = cli(
        "db", "tier", "--restore", "2024-10-05", "--exchange", "simulated", "--symbol", "BTC/USDT", env=ours
    )
    assert (back.returncode, back.stderr) == (0, "")
    assert "simulated BTC/USDT 2024-10-05 is in the database again" in back.stdout
    with connect(tape) as connection:
        assert days_in(connection, "trades") == {1, DAYS}


def test_a_damaged_file_is_said_and_nothing_is_dropped(cli, ours, tape, tmp_path):
    cli("db", "tier", env=ours)
    for path in (tmp_path / "tier").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
    check = cli("db", "tier", "--check", env=ours)
    assert check.returncode == 1
    assert check.stdout.count("is damaged") == DAYS
    assert f"✗ 0 of {DAYS} files hold what was written" in check.stdout
    retain = cli("db", "retain", env=ours)
    assert retain.returncode == 1
    assert retain.stdout.count("refused: ") == DAYS
    with connect(tape) as connection:
        assert days_in(connection, "trades") == set(range(DAYS + 1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--restore", "2024-10-05"], "--restore needs --exchange and --symbol"),
        (["--exchange", "kraken"], "go with --restore"),
        (
            ["--restore", "2024-10-05T10:00", *OF_A],
            "name a day, like 2026-03-01",
        ),
        (
            ["--restore", "2024-10-05", *OF_A],
            "the tier has nothing of a b 2024-10-05",
        ),
    ],
)
def test_what_cannot_be_meant_is_wrong_use(monkeypatch, tmp_path, database, arguments, said):
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
    with pytest.raises(WrongUse, match=said):
        CliRunner().invoke(get_command(build(["db"])), ["db", "tier", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DELTATAPE_TIER__URL", "some/folder", "name the folder from the root on, like /mnt/tape"),
        ("DELTATAPE_TIER__DAYS", "1", "greater than or equal to 2"),
        ("DELTATAPE_RETAIN", '[{"table": "trades", "days": 1}]', "greater than or equal to 2"),
        ("DELTATAPE_RETAIN", '[{"table": "alerts", "days": 9}]', "Input should be"),
        (
            "DELTATAPE_RETAIN",
            '[{"table": "trades", "days": 9, "interval": "1m"}]',
            "only candles have an interval",
        ),
        ("DELTATAPE_UPKEEP__AT", "25:00", "String should match pattern"),
    ],
)
def test_settings_that_cannot_be_are_refused(monkeypatch, tmp_path, name, value, said):
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse, match=said):
        settings.load()


def test_the_settings_name_the_tables_that_can_leave():
    def named(model, field):
        return set(str(model.model_fields[field].annotation).split("'")[1::2])

    assert named(settings.RetainOptions, "table") == set(TABLES)
    assert named(settings.TierOptions, "tables") == set(TIERED)
