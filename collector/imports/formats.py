"""Which formats there are, and which one a file is of."""

from pathlib import Path

from collector.imports import binance_archive, freqtrade, generic, tardis
from collector.imports.arrow import is_arrow
from collector.imports.lines import first_lines
from collector.imports.source import Hints, Read, Source, Tell
from market import WrongUse

FORMATS: dict[str, Read] = {
    "binance": binance_archive.read,
    "tardis": tardis.read,
    "freqtrade": freqtrade.read,
    "parquet": generic.read_arrow,
    "csv": generic.read_csv,
}
"""Each format, in the order in which they are tried: the general ones last."""


def is_table(path: Path) -> bool:
    """Whether its columns have names, one of which is a price: a recording's have not."""
    if not path.is_file():
        raise WrongUse(f"no such file: {path}")
    if is_arrow(path):
        return True
    names = "".join(first_lines(path, 1)).lower().replace(";", ",").replace("\t", ",")
    return "price" in [name.strip(' "\r\n') for name in names.split(",")]


def find(path: Path, form: str | None, hints: Hints, tell: Tell) -> Source:
    """The file, understood; `form` forces a format, and columns that are named a general one.

    Raises:
        WrongUse: it is missing, of no format that is known, or something must be said about it.
    """
    if form is not None and form not in FORMATS:
        raise WrongUse(f"unknown format {form!r}: use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise WrongUse(f"no such file: {path}")
    general = ("parquet", "csv")
    tried = [form] if form else general if hints.columns else list(FORMATS)
    for name in tried:
        source = FORMATS[name](path, hints, tell)
        if source is not None:
            return source
    what = f"{form} file" if form else "file of a known format"
    raise WrongUse(f"{path.name} is no {what}; formats are {', '.join(FORMATS)}, and --format forces one")
