"""`deltatape doctor`: every finding has its fix, nothing is started, and nothing makes it crash."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deltatape import settings
from deltatape.doctor import collecting, examine, machine, server
from deltatape.doctor.finding import State
from storage import streams
from storage.database import connect

NOWHERE = {"DELTATAPE_DATABASE_URL": "postgresql://me:not-for-you@127.0.0.1:1/none"}


@pytest.fixture
def examined(database, tmp_path, monkeypatch):
    """The findings by their check, with these environment variables."""

    def run(env=None):
        for name in [name for name in os.environ if name.startswith("DELTATAPE_")]:
            monkeypatch.delenv(name)
        ours = {"DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path / "home")}
        for name, value in (ours | (env or {})).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
        wanted = settings.load()
        return {found.check: found for found in examine(wanted, wanted.home)}

    return run


def broken(found):
    return {name for name, one in found.items() if one.state is State.ERROR}


@pytest.fixture
def exchange(tmp_path):
    """Settings that collect from a server of ours whose clock is `server.ahead` off."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response_only(200)
            now = datetime.now(UTC) + timedelta(seconds=self.server.ahead)
            self.send_header("Date", format_datetime(now, usegmt=True))
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as found:
        found.ahead = 0
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{found.server_port}"
        config = tmp_path / "deltatape.toml"
        config.write_text(f'[[collect]]\nexchange = "kraken"\nsymbols = ["BTC/USD"]\nrest_url = "{url}"\n')
        found.env = {"DELTATAPE_CONFIG": str(config)}
        yield found
        found.shutdown()
        thread.join()


def test_all_is_well(examined, exchange):
    found = examined(exchange.env)
    assert broken(found) == set()
    names = "python packages settings home disk socket server versions schema locks commit"
    assert {*names.split(), "time zone", "clock (database)"} < set(found)
    assert {"locks held", "heartbeats", "spool", "rejected", "holes"} < set(found)
    assert found["clock (kraken)"].state is State.OK
    assert all(bool(one.fix) == (one.state is not State.OK) for one in found.values())


def test_a_clock_that_is_wrong_is_a_warning(examined, exchange):
    exchange.ahead = 60
    found = examined(exchange.env)["clock (kraken)"]
    assert found.state is State.WARNING
    assert "behind" in found.text
    assert "synchronise" in found.fix


def test_an_exchange_that_does_not_answer_is_a_warning():
    assert machine.exchange_clock("kraken", "http://127.0.0.1:9").state is State.WARNING
    assert machine.exchange_clock("mtgox", None).state is State.ERROR


def test_a_database_that_is_down_is_said_and_the_rest_goes_on(cli, exchange):
    done = cli("doctor", "--json", env=exchange.env | NOWHERE)
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["server"]["state"] == "error"
    assert found["server"]["fix"]
    assert found["clock (kraken)"]["state"] == "ok"
    assert "not-for-you" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_warnings_leave_it_at_0_and_no_server_is_started(cli, exchange, tmp_path):
    home = tmp_path / "other"
    env = exchange.env | {"DELTATAPE_DATABASE_URL": "", "DELTATAPE_HOME": str(home)}
    done = cli("doctor", "--json", env=env)
    assert done.returncode == 0
    assert "deltatape db start" in done.stdout
    assert "was never started" in done.stdout
    assert not home.exists()


def test_tables_of_another_revision_are_an_error(examined, exchange, database):
    with connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    found = examined(exchange.env)
    assert broken(found) == {"schema"}
    assert found["schema"].fix == "deltatape db upgrade"


def test_a_database_without_anything_of_ours(examined, exchange, empty_database):
    found = examined(exchange.env | {"DELTATAPE_DATABASE_URL": empty_database})
    assert {"versions", "schema"} <= broken(found)


def test_settings_that_cannot_be_are_a_finding(cli, tmp_path):
    config = tmp_path / "deltatape.toml"
    config.write_text("[collect\n")
    done = cli("doctor", "--json", env={"DELTATAPE_CONFIG": str(config)})
    assert done.returncode == 1
    (found,) = [one for one in json.loads(done.stdout) if one["check"] == "settings"]
    assert found["state"] == "error"


def test_another_time_zone_is_an_error(connection, database):
    with connect(database, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'")
    found = {one.check: one for one in server.check(connection)}
    assert found["time zone"].state is State.ERROR
    assert "Europe/Berlin" in found["time zone"].text


def test_what_collectors_left_behind(connection, tmp_path):
    connection.execute(
        "INSERT INTO stream_state (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status,"
        " updated_timestamp)"
        " VALUES ('kraken', 'BTC/USD', 'trades', '', now(), 1, 'live', now() - interval '1 h')"
    )
    connection.execute(
        "INSERT INTO rejected_messages (timestamp, exchange, reason, raw) VALUES"
        " (now(), 'kraken', 'no JSON', ''), (now() - interval '3 days', 'kraken', 'old', '')"
    )
    connection.execute(
        "INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, detected_timestamp,"
        " cause, status, proof)"
        " SELECT 'kraken', 'BTC/USD', 'trades', now(), now(), now() - age, 'test', status, 'ids'"
        " FROM (VALUES (interval '2 days', 'confirmed'), ('1 hour', 'confirmed'), ('9 days', 'healed'))"
        " AS gap (age, status)"
    )
    connection.commit()
    folder = tmp_path / "spool" / "kraken" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "00000001").write_bytes(b"x" * 2_000_000)
    with connect(connection.info.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('kraken:BTC/USD', 0))")
        found = {one.check: one for one in collecting.check(connection, tmp_path)}
        pid = other.info.backend_pid
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(found, State.WARNING)
    assert f"pg_terminate_backend({pid})" in found["locks held"].fix
    assert "kraken BTC/USD for 1.0 h" in found["heartbeats"].text
    assert "2.0 MB of kraken" in found["spool"].text
    assert "start a collector of kraken" in found["spool"].fix
    assert found["rejected"].text == "1 messages in the last day, mostly kraken: no JSON"
    assert found["holes"].text.startswith("1 are open")
    assert found["holes"].fix == "deltatape repair"


def test_a_spool_whose_collector_runs_is_being_stored(connection, tmp_path):
    connection.execute(
        "INSERT INTO stream_state (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status)"
        " VALUES ('kraken', 'BTC/USD', 'trades', '', now(), 1, 'live')"
    )
    connection.commit()
    assert not streams.list_streams(connection)[0].has_stopped(datetime.now(UTC))
    (tmp_path / "spool/kraken/a").mkdir(parents=True)
    (tmp_path / "spool/kraken/a/1").write_bytes(b"x")
    found = {one.check: one for one in collecting.check(connection, tmp_path)}
    assert "too slow" in found["spool"].fix


def test_a_home_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    (found,) = machine.folder(tmp_path / "file" / "home")
    assert (found.check, found.state) == ("home", State.ERROR)


def test_little_room_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "LITTLE_DISK", 10**18)
    found = {one.check: one for one in machine.folder(tmp_path)}
    assert found["disk"].state is State.WARNING


@pytest.mark.parametrize(
    ("version", "wanted", "is_right"),
    [
        ("1.0", "<2,>=1.0", True),
        ("2.0", "<2,>=1.0", False),
        ("0.9.9", "<2,>=1.0", False),
        ("2.4.1", "<2.5,>=2.4", True),
        ("2.5", "<2.5,>=2.4", False),
        ("1.10rc1", ">=1.9", True),
        ("7", "", True),
    ],
)
def test_versions_lie_in_their_range(version, wanted, is_right):
    assert machine._satisfies(version, wanted) is is_right


def test_every_requirement_is_of_a_kind_that_is_understood():
    from importlib import metadata

    for requirement in metadata.requires("deltatape"):
        found = machine._REQUIREMENT.match(requirement)
        assert found, requirement
        for part in filter(None, found[2].strip(" ()").split(",")):
            assert part.strip().startswith((">=", "<")), requirement
            assert not part.startswith("<="), requirement
