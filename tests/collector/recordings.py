"""The recordings read a second time, by hand, for the tests to compare with."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

BINANCE = ("binance/BINANCE.ws.1.0", "binance/BINANCE.http.0.0", "binance/BINANCE.0.gz")
COINBASE = ("coinbase/COINBASE.ws.28.0.part-a.gz", "coinbase/COINBASE.0")
KRAKEN_V1 = ("kraken_v1/KRAKEN.ws.48.0.gz", "kraken_v1/KRAKEN.ws.50.0.gz", "kraken_v1/KRAKEN.0.gz")
FILES = {"binance": BINANCE, "coinbase": COINBASE, "kraken_v1": KRAKEN_V1}


def paths(shared_data: Path, exchange: str) -> list[Path]:
    return [shared_data / name for name in FILES[exchange]]


def messages(shared_data: Path, exchange: str) -> list[object]:
    found = []
    for path in paths(shared_data, exchange):
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        for line in text.decode().splitlines():
            head, _, body = line.partition(": ")
            if head.replace(".", "").isdigit():
                found.append(json.loads(body, parse_float=Decimal))
    return found


def expected_trades(shared_data: Path, exchange: str) -> set[tuple[str, str, str, str, float, float]]:
    """Every trade in the files: (exchange's symbol, id, time as the file has it, side, price, size)."""
    read = {"binance": _binance, "coinbase": _coinbase, "kraken_v1": _kraken_v1}[exchange]
    return {row for message in messages(shared_data, exchange) for row in read(message)}


def _binance(message):
    data = message["data"]
    if data.get("e") == "aggTrade":
        side = "sell" if data["m"] else "buy"
        yield data["s"], f"a{data['a']}", str(data["T"]), side, float(data["p"]), float(data["q"])


def _coinbase(message):
    if message["type"] in ("match", "last_match"):
        side = {"sell": "buy", "buy": "sell"}[message["side"]]
        yield (
            message["product_id"],
            str(message["trade_id"]),
            message["time"],
            side,
            float(message["price"]),
            float(message["size"]),
        )


def _kraken_v1(message):
    if isinstance(message, list) and message[-2] == "trade":
        for price, size, time, side, _, _ in message[1]:
            yield message[-1], "", time, {"b": "buy", "s": "sell"}[side], float(price), float(size)
