"""Text files, plain, gzip or ZIP, as blocks of lines: bounded memory, and every row knows its line."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import cast

import polars as pl

from collector.imports.source import EndedEarly, Tell
from market import WrongUse

BLOCK = 8_000_000
"""Bytes of text that are worked on at once."""
PIECE = 65_536
"""Bytes that are read at once."""
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_DAMAGE = (EOFError, OSError, zlib.error, zipfile.BadZipFile)


def first_lines(path: Path, count: int = 5) -> list[str]:
    """The first lines that are not empty; none where the file holds no text."""
    found: list[str] = []
    try:
        for _, lines in blocks(path, lambda _: None, 65_536):
            found += [line for line in lines if line.strip()]
            if len(found) >= count:
                break
    except EndedEarly:
        pass
    text = "".join(found[:count])
    return [] if "\0" in text or text.count("\ufffd") > len(text) // 10 else found[:count]


def blocks(path: Path, tell: Tell, size: int = BLOCK) -> Iterator[tuple[int, list[str]]]:
    """(Number of its first line, its lines) for each part of the text, of every file in a ZIP.

    Raises:
        WrongUse: the file cannot be opened.
        EndedEarly: it is cut or damaged; what came before was given.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise WrongUse(f"cannot open {path}: {error.strerror}") from None
    with file:
        start = file.read(4)
        file.seek(0)
        number = 1
        whole: list[str] = []
        held = 0
        damage: str | None = None
        try:
            for stream in _streams(file, start):
                rest = ""
                for text in _texts(stream):
                    whole += (rest + text).split("\n")
                    rest = whole.pop()
                    held += len(text)
                    if held >= size and whole:
                        tell(file.tell())
                        yield number, whole
                        number, whole, held = number + len(whole), [], 0
                if rest:
                    whole.append(rest)
        except _DAMAGE as error:
            damage = f"line {number + len(whole)}: the file is cut or damaged: {error}"
        if whole:
            tell(file.tell())
            yield number, whole
        if damage is not None:
            raise EndedEarly(damage)


def _texts(stream: BufferedIOBase) -> Iterator[str]:
    """Piece by piece, so that what comes before damage is had."""
    encoding = "utf-8-sig"
    while data := stream.read1(PIECE):
        yield data.decode(encoding, "replace")
        encoding = "utf-8"


def _streams(file: BufferedReader, start: bytes) -> Iterator[BufferedIOBase]:
    if start.startswith(_GZIP):
        with gzip.open(file) as stream:
            yield stream
    elif start.startswith(_ZIP):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if not name.endswith("/"):
                    with archive.open(name) as stream:
                        yield cast("BufferedIOBase", stream)
    else:
        yield file


def table(first: int, lines: Sequence[str], names: Sequence[str], separator: str) -> pl.DataFrame:
    """The fields of each line that is not empty, as texts, with its `line`; missing ones are null."""
    frame = pl.DataFrame({"text": lines}, schema={"text": pl.String}).with_row_index("line", first)
    frame = frame.filter(pl.col("text").str.strip_chars() != "")
    parts = pl.col("text").str.split_exact(separator, len(names) - 1).struct.rename_fields(list(names))
    return frame.select(pl.col("line").cast(pl.Int64), parts.alias("parts")).unnest("parts")
