"""The recordings read a second time, by hand, for the tests to compare with."""

import ast
import gzip
import json
from decimal import Decimal
from pathlib import Path

BINANCE = ("binance/BINANCE.ws.1.0", "binance/BINANCE.http.0.0", "binance/BINANCE.0.gz")
BINANCEUSDM = (
    "binance_futures/BINANCE_FUTURES.ws.1.0",
    "binance_futures/BINANCE_FUTURES.http.0.0",
    "binance_futures/BINANCE_FUTURES.0.gz",
)
COINBASE = ("coinbase/COINBASE.ws.28.0.part-a.gz", "coinbase/COINBASE.0")
KRAKEN_V1 = ("kraken_v1/KRAKEN.ws.48.0.gz", "kraken_v1/KRAKEN.ws.50.0.gz", "kraken_v1/KRAKEN.0.gz")
HTX = ("htx/HUOBI.ws.44.0.gz", "htx/HUOBI.0.gz")
OKX = ("okx/OKX.ws.1.0", "okx/OKX.0.gz")
FILES = {
    "binance": BINANCE,
    "binanceusdm": BINANCEUSDM,
    "coinbase": COINBASE,
    "htx": HTX,
    "kraken_v1": KRAKEN_V1,
    "okx": OKX,
}


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
                if body.startswith(("b'", 'b"')):
                    body = gzip.decompress(ast.literal_eval(body)).decode()
                found.append(json.loads(body, parse_float=Decimal))
    return found


def expected_trades(shared_data: Path, exchange: str) -> set[tuple[str, str, str, str, float, float]]:
    """Every trade in the files: (exchange's symbol, id, time as the file has it, side, price, size)."""
    read = {
        "binance": _binance,
        "binanceusdm": _binance,
        "coinbase": _coinbase,
        "htx": _htx,
        "kraken_v1": _kraken_v1,
        "okx": _okx,
    }[exchange]
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


def _htx(message):
    if message.get("ch", "").endswith(".trade.detail"):
        symbol = message["ch"].split(".")[1]
        for row in message["tick"]["data"]:
            identity = symbol, str(row["tradeId"]), str(row["ts"]), row["direction"]
            yield *identity, float(row["price"]), float(row["amount"])


def _okx(message):
    if message["arg"]["channel"] == "trades" and "data" in message:
        for row in message["data"]:
            identity = row["instId"], row["tradeId"], row["ts"], row["side"]
            yield *identity, float(row["px"]), float(row["sz"])
