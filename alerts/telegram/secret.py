"""The token is part of each call's address: whoever logs addresses is filtered, and texts are masked.

Whoever speaks to Telegram imports this, the bot and the channel of alerts.
"""

from __future__ import annotations

import logging
import re

__all__ = ["hidden"]

MASK = "***"
_TOKEN = re.compile(r"\d+:[\w-]{16,}")
_LOGGERS = (
    # Logs each request's address at INFO.
    "httpx",
    # Log the address of the server, token and all, at DEBUG.
    "telegram.Bot",
    "telegram.ext.ExtBot",
    "telegram.request.BaseRequest",
    "telegram.request.HTTPXRequest",
)


class _Masking(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with whatever looks like a token masked."""
        shown = record.getMessage()
        masked = _TOKEN.sub(MASK, shown)
        if masked != shown:
            record.msg, record.args = masked, ()
        return True


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_Masking())
# Everything that it logs, with a traceback, it raises too.
logging.getLogger("telegram.request.BaseRequest").setLevel(logging.CRITICAL)


def hidden(error: object, token: str) -> str:
    """What an error says, without the token and without its secret half alone."""
    return str(error).replace(token, MASK).replace(token.partition(":")[2] or token, MASK)
