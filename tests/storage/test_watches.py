from storage.database import Connection
from storage.watches import MOST, unwatch, watch, watched


def test_each_chat_watches_its_own(connection: Connection) -> None:
    assert watch(connection, 7, "kraken", "BTC/USD")
    assert watch(connection, 7, "binance", "BTC/USDT")
    assert watch(connection, 7, "binance", "BTC/USDT")
    assert watch(connection, -9, "okx", "ETH/USDT")
    assert watched(connection, 7) == [("binance", "BTC/USDT"), ("kraken", "BTC/USD")]
    assert unwatch(connection, 7, "kraken", "BTC/USD")
    assert not unwatch(connection, 7, "kraken", "BTC/USD")
    assert watched(connection, 7) == [("binance", "BTC/USDT")]
    assert watched(connection, -9) == [("okx", "ETH/USDT")]


def test_no_chat_watches_without_end(connection: Connection) -> None:
    assert all(watch(connection, 7, "kraken", f"A{number}/USD") for number in range(MOST))
    assert not watch(connection, 7, "kraken", "B/USD")
    assert watch(connection, 7, "kraken", "A3/USD")
    assert len(watched(connection, 7)) == MOST
