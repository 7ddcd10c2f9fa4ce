"""What Bybit's names of pairs and linear contracts say, by rule alone."""

import re

from collector.exchanges.contracts import Contract

_QUOTES = (
    "USDT|USDC|USDE|USD1|USDR|RLUSD|MNT|SOL|BTC|ETH|DAI|EUR|BRL|TRY|PLN|AED|GBP|BRZ"  # what pairs end with
)
_PAIR = re.compile(rf"([^\W_a-z]+?)({_QUOTES})")
_PERPETUAL = re.compile(r"([^\W_a-z]+?)(USDT|PERP)")
_DATED = re.compile(r"([^\W_a-z]+?)(USDT|)-([0-9]{1,2})([A-Z]{3})([0-9]{2})")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def pair_of(name: str) -> tuple[str, str] | None:
    """BTCUSDT is BTC, USDT."""
    found = _PAIR.fullmatch(name)
    if found is None or name != name.upper():
        return None
    base, quote = found.groups()
    return base, quote


def contract_named(name: str) -> Contract | None:
    """BTCUSDT and BTCUSDT-26SEP25 are settled in USDT, BTCPERP and BTC-26SEP25 in USDC."""
    if name != name.upper():
        return None
    if found := _PERPETUAL.fullmatch(name):
        base, kind = found.groups()
        quote = "USDT" if kind == "USDT" else "USDC"
        return Contract(base, quote, quote)
    found = _DATED.fullmatch(name)
    if found is None or found[4] not in _MONTHS:
        return None
    base, kind, day, month, year = found.groups()
    quote = kind or "USDC"
    return Contract(base, quote, quote, f"{year}{_MONTHS.index(month) + 1:02}{day:0>2}")


def name_of(contract: Contract) -> str | None:
    """The reverse; None where Bybit lists no such linear contracts."""
    base, quote, delivery = contract.base, contract.quote, contract.delivery
    if contract.settle != quote or quote not in ("USDT", "USDC"):
        return None
    if not delivery:
        return base + ("USDT" if quote == "USDT" else "PERP")
    month = int(delivery[2:4])
    if not 1 <= month <= len(_MONTHS):
        return None
    return f"{base}{'USDT' if quote == 'USDT' else ''}-{delivery[4:]}{_MONTHS[month - 1]}{delivery[:2]}"
