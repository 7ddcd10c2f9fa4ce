"""Instruments: what their exchange's list says today, and what changed since the last one."""

from typing import Any

from msgspec import structs

from market import Instrument
from storage.database import Connection
from storage.instruments import Changes, note_instruments, refresh_instruments, write_instruments

NOTHING = Changes([], [], [])


def instrument(symbol: str, **more: Any) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(
        exchange=more.pop("exchange", "kraken"),
        symbol=symbol,
        exchange_symbol=base + quote,
        base=base,
        quote=quote,
        tick_size="0.1",
        **more,
    )


BTC, ETH, SOL = instrument("BTC/USD"), instrument("ETH/USD"), instrument("SOL/USD")


def stored(connection: Connection) -> dict[str, tuple[bool, bool, bool]]:
    """symbol → (is active, was seen to be listed, is delisted)."""
    rows = connection.execute(
        """
        SELECT symbol, is_active, listed_timestamp IS NOT NULL, delisted_timestamp IS NOT NULL
        FROM instruments WHERE exchange = 'kraken'
        """
    ).fetchall()
    return {symbol: (active, listed, delisted) for symbol, active, listed, delisted in rows}


def notes(connection: Connection) -> list[tuple[Any, ...]]:
    query = "SELECT symbol, field, old_value, new_value FROM instrument_changes ORDER BY id"
    return connection.execute(query).fetchall()


def refresh(connection: Connection, *instruments: Instrument) -> Changes:
    changes = refresh_instruments(connection, "kraken", instruments)
    connection.commit()
    return changes


def test_the_first_list_is_no_news(connection: Connection) -> None:
    write_instruments(connection, [BTC])
    assert refresh(connection, BTC, ETH) == NOTHING
    assert stored(connection) == {"BTC/USD": (True, False, False), "ETH/USD": (True, False, False)}
    assert refresh(connection, BTC, ETH) == NOTHING
    assert notes(connection) == []


def test_a_listing_is_noted(connection: Connection) -> None:
    refresh(connection, BTC)
    assert refresh(connection, BTC, ETH, SOL) == Changes(["ETH/USD", "SOL/USD"], [], [])
    assert stored(connection)["ETH/USD"] == (True, True, False)
    assert notes(connection) == [("ETH/USD", "listed", None, "true"), ("SOL/USD", "listed", None, "true")]
    assert refresh(connection, BTC, ETH, SOL) == NOTHING


def test_what_vanishes_is_delisted_and_may_come_back(connection: Connection) -> None:
    refresh(connection, BTC, ETH)
    assert refresh(connection, BTC) == Changes([], ["ETH/USD"], [])
    assert stored(connection) == {"BTC/USD": (True, False, False), "ETH/USD": (False, False, True)}
    assert refresh(connection, BTC) == NOTHING
    assert refresh(connection, BTC, ETH) == Changes(["ETH/USD"], [], [])
    assert stored(connection)["ETH/USD"] == (True, False, False)
    assert notes(connection) == [
        ("ETH/USD", "is_active", "true", "false"),
        ("ETH/USD", "is_active", "false", "true"),
    ]


def test_what_is_listed_as_inactive_is_delisted(connection: Connection) -> None:
    refresh(connection, BTC, ETH)
    halted = structs.replace(ETH, is_active=False)
    assert refresh(connection, BTC, halted) == Changes([], ["ETH/USD"], [])
    assert stored(connection)["ETH/USD"] == (False, False, True)
    assert refresh(connection, BTC, halted) == NOTHING
    assert notes(connection) == [("ETH/USD", "is_active", "true", "false")]


def test_another_tick_is_a_change(connection: Connection) -> None:
    refresh(connection, BTC, ETH)
    assert refresh(connection, structs.replace(BTC, tick_size="0.01"), ETH) == Changes([], [], ["BTC/USD"])
    assert notes(connection) == [("BTC/USD", "tick_size", "0.1", "0.01")]


def test_an_empty_list_delists_nobody(connection: Connection) -> None:
    refresh(connection, BTC)
    assert refresh(connection) == NOTHING
    assert stored(connection) == {"BTC/USD": (True, False, False)}


def test_other_exchanges_are_left_alone(connection: Connection) -> None:
    write_instruments(connection, [instrument("XRP/USD", exchange="coinbase")])
    refresh(connection, BTC)
    refresh(connection, ETH)
    query = "SELECT is_active FROM instruments WHERE exchange = 'coinbase'"
    assert connection.execute(query).fetchall() == [(True,)]


def test_what_a_name_tells_never_replaces_what_the_list_said(connection: Connection) -> None:
    refresh(connection, BTC)
    refresh(connection, ETH)
    by_name = structs.replace(BTC, tick_size=None, exchange_symbol="XBTUSD")
    assert note_instruments(connection, [by_name, by_name]) == 0
    assert note_instruments(connection, [structs.replace(BTC, tick_size="7", lot_size="2")]) == 1
    assert note_instruments(connection, [SOL]) == 1
    rows = connection.execute(
        "SELECT exchange_symbol, tick_size::text, lot_size::text, is_active FROM instruments"
        " WHERE symbol IN ('BTC/USD', 'SOL/USD') ORDER BY symbol"
    ).fetchall()
    assert rows == [("BTCUSD", "0.1", "2", False), ("SOLUSD", "0.1", None, True)]
    assert [note[:2] for note in notes(connection)] == [("BTC/USD", "is_active"), ("ETH/USD", "listed")]
