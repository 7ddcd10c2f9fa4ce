"""What Deltatape logs: lines for people or JSON for machines, on stderr, and never a secret."""

import json
import logging
import os
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

MASK = "***"
SHORTEST = 4
"""A known secret shorter than this would hide half of every line."""
_MAX_FIELD = 2_000

SAYS = "deltatape.cli"
"""The logger of what a command says to whoever started it: never below the level."""

_known: set[str] = set()

_PATTERNS = (
    # postgresql://user:password@host, and any other address with one
    (re.compile(r"(://[^\s/@:]*:)[^\s/]+@"), rf"\1{MASK}@"),
    # A Telegram bot's token, in its API's addresses too
    (re.compile(r"(?<!\d)\d{6,12}:[\w-]{35}(?![\w-])"), MASK),
    # password='…', "api_key": "…", X-MBX-APIKEY: …, Authorization: Bearer …, ?signature=…
    (
        re.compile(
            r"""
            ( [\w-]* (?: passw(?:or)?d | passphrase | secret | token | signature | authorization
                       | api[_-]?key | api[_-]sign | access[_-]key )
              \\*["']? \s* [:=] \s* (?: (?:bearer|basic) \s+ )? )
            (?: "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | \\+["'][^"'\\]*\\*["'] | [^\s,;&}\])"']+ )
            """,
            re.IGNORECASE | re.VERBOSE,
        ),
        rf"\1{MASK}",
    ),
    # A bare key as the large exchanges give them: 64 letters and digits, mixed (a hash has no capitals)
    (
        re.compile(r"(?<![A-Za-z0-9])(?=[a-z0-9]*[A-Z])(?=[A-Z0-9]*[a-z])[A-Za-z0-9]{64}(?![A-Za-z0-9])"),
        MASK,
    ),
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def hide(*secrets: str | None) -> None:
    """From now on these texts stand in no log line, as they are or percent-decoded."""
    for secret in secrets:
        for form in {secret or "", unquote(secret or "")}:
            if len(form) >= SHORTEST:
                _known.add(form)


def hide_connection(url: str | None) -> None:
    """Hide the password of a database's address, and the one in PGPASSWORD."""
    from psycopg import ProgrammingError  # `deltatape --help` does without
    from psycopg.conninfo import conninfo_to_dict

    hide(os.environ.get("PGPASSWORD"))
    if not url:
        return
    try:
        hide(str(conninfo_to_dict(url).get("password") or ""))
    except ProgrammingError:
        hide(urlsplit(url).password)


def mask(text: str) -> str:
    """`text` without passwords, tokens, keys and whatever `hide` was told."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


class TextFormatter(logging.Formatter):
    """A line for people, with the traceback where there is one."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, masked as a whole."""
        return mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, what `extra` held, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; every text in it is masked before it is encoded."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        fields = {
            name: _plain(name, value) for name, value in record.__dict__.items() if name not in _STANDARD
        }
        if fields:
            line["fields"] = fields
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = mask("".join(traceback.format_exception(*record.exc_info)))
        if record.stack_info:
            line["stack"] = mask(record.stack_info)
        return json.dumps(line, ensure_ascii=False)


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    # With its name, as a field called api_key may hold any text.
    return mask(f"{name}={str(value)[:_MAX_FIELD]!r}").removeprefix(f"{name}=").strip("'\"")


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Log to stderr from `level` on, in this form; for a process of our own, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    logging.getLogger(SAYS).setLevel(logging.INFO)
    # It logs the address of every request, query and all.
    logging.getLogger("httpx").setLevel(max(logging.WARNING, logging.getLogger().level))


def is_json() -> bool:
    """Whether every line on stderr is to be JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)
