from storage.database import Connection
from storage.mutes import Mute, mute, muted, unmute
from storage.outbox import AlertType, Event, alert_rows
from storage.sending import Waiting

NOW = 1_800_000_000_000_000


def silent(connection: Connection, now: int = NOW) -> dict[str, int]:
    return {f"{each.channel} {each.subject}".strip(): each.until for each in muted(connection, now)}


def test_a_channel_is_silent_until_its_time(connection: Connection) -> None:
    mute(connection, Mute(channel="phone", until=NOW + 10))
    mute(connection, Mute(channel="mail", until=NOW + 5))
    assert silent(connection) == {"mail": NOW + 5, "phone": NOW + 10}
    assert [each.channel for each in muted(connection, NOW, channel="phone")] == ["phone"]
    assert silent(connection, NOW + 5) == {"phone": NOW + 10}
    mute(connection, Mute(channel="phone", until=NOW + 1))
    assert silent(connection, NOW + 1) == {"mail": NOW + 5}


def test_a_channel_is_silent_of_something(connection: Connection) -> None:
    of_btc = Mute(channel="phone", exchange="kraken", symbol="BTC/USD", until=NOW + 10)
    mute(connection, of_btc)
    mute(connection, Mute(channel="phone", alert_type="data_gap", until=NOW + 5))
    mute(connection, Mute(channel="phone", strategy="trend", until=NOW + 5))
    assert silent(connection) == {
        "phone trend": NOW + 5,
        "phone kraken BTC/USD": NOW + 10,
        "phone data_gap": NOW + 5,
    }
    assert unmute(connection, Mute(channel="phone", symbol="BTC/USD")) == 0
    assert unmute(connection, Mute(channel="phone", exchange="kraken", symbol="BTC/USD")) == 1
    assert unmute(connection, Mute(channel="mail")) == 0
    assert unmute(connection, Mute(channel="phone")) == 2
    assert muted(connection, NOW) == []


def test_it_is_a_rule_like_those_of_the_settings() -> None:
    waits = Waiting(1, "info", 0, 0, "phone", "data_gap", {"exchange": "kraken", "symbol": "BTC/USD"})
    event = Event(
        alert_type=AlertType.DATA_GAP,
        timestamp=1,
        title="",
        message="",
        dedupe_key="",
        payload={"exchange": "kraken", "symbol": "BTC/USD"},
    )
    (row,) = alert_rows(event, ["phone"])
    for given, fits in (
        ({}, True),
        ({"alert_type": "data_gap"}, True),
        ({"alert_type": "run_finished"}, False),
        ({"symbol": "BTC/USD"}, True),
        ({"exchange": "okx", "symbol": "BTC/USD"}, False),
        ({"strategy": "trend"}, False),
    ):
        rule = Mute(channel="phone", **given).rule()
        assert rule.fits(waits) == rule.fits(row) == fits, given
    assert not Mute(channel="mail").rule().fits(waits)
