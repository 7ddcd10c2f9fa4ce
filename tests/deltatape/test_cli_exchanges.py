"""`deltatape exchanges` as a user runs it."""

import json

from collector.exchanges import EXCHANGES, find


def test_every_adapter_is_listed(cli):
    records = {record["id"]: record for record in json.loads(cli("exchanges", "--json").stdout)}
    assert records.keys() == EXCHANGES.keys()
    for known, record in records.items():
        adapter = find(known)
        assert record["ids_consecutive"] == adapter.has_consecutive_ids
        assert record["trades"] == adapter.facts.trades
        assert record["websocket"] == adapter.ws_url
    shown = cli("exchanges").stdout
    assert all(known in shown for known in EXCHANGES)


def test_one_exchange_is_told_in_full(cli):
    done = cli("exchanges", "kraken")
    assert done.returncode == 0
    assert "wss://ws.kraken.com" in done.stdout
    assert "CRC32" in done.stdout


def test_the_others_go_through_ccxt(cli):
    done = cli("exchanges", "--all")
    assert done.returncode == 0
    assert "gate" in done.stdout
    assert json.loads(cli("exchanges", "gate", "--json").stdout)["ids_consecutive"] is False


def test_an_unknown_one_is_one_line(cli):
    done = cli("exchanges", "mtgox")
    assert done.returncode == 2
    assert "unknown exchange 'mtgox'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
