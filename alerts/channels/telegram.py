"""The channel to a Telegram chat: a text with every reason and number, and a picture where there is one.

Errors and their meaning: https://core.telegram.org/bots/api#making-requests.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
from telegram import Bot, error
from telegram.request import HTTPXRequest

from alerts.plan import Failure
from alerts.telegram.markup import MOST_CAPTION, MOST_TEXT, bold, cut, safe
from alerts.texts import digest_lines, digest_title, lines, origin
from market.timeframe import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.outbox import Alert

    Draw = Callable[[Alert], bytes | None]

log = logging.getLogger(__name__)

CALL_SECONDS = 20.0
_MARKS = {"warning": "⚠️ ", "critical": "🔴 "}
_SIGNALS = {"STRONG_BUY": "🟢🟢 ", "BUY": "🟢 ", "SELL": "🟥 ", "STRONG_SELL": "🟥🟥 "}
# They name the address of each call, and the token is a part of it.
for _name in ("httpx", "httpcore", "telegram.Bot", "telegram.request"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# Everything that it logs it raises too.
logging.getLogger("telegram.request.BaseRequest").setLevel(logging.CRITICAL)


class TelegramChannel:
    """Sends to one chat; it belongs to the thread that first sends.

    Args:
        token: the bot's, which stands in no message and no log.
        chat: its number, or the @name of a channel.
        api_url: of the Bot API's server.
        draw: gives the picture (PNG) of an alert, where there is one to give.
    """

    def __init__(self, token: str, chat: int | str, api_url: str, draw: Draw | None = None) -> None:
        self._token = token
        self._chat = chat
        self._draw = draw
        self._unseen: set[int] = set()
        self._runner = asyncio.Runner()
        self._request = HTTPXRequest(
            connection_pool_size=2, connect_timeout=5, read_timeout=10, write_timeout=10, pool_timeout=1
        )
        self._bot = Bot(token, base_url=f"{api_url.rstrip('/')}/bot", request=self._request)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """Send these in one message; one alone with its picture, and without where Telegram refuses that."""
        picture = self._picture(alerts)
        try:
            self._runner.run(self._call(text(alerts, MOST_TEXT), text(alerts, MOST_CAPTION), picture))
        except error.BadRequest as refused:
            if picture is not None:
                # Its next attempt goes without; at once would be faster than Telegram allows.
                self._unseen.add(alerts[0].id)
            return self._failure(refused, is_permanent=picture is None)
        except (error.Forbidden, error.ChatMigrated) as refused:
            return self._failure(refused, is_permanent=True)
        except error.RetryAfter as asked:
            return Failure(str(asked), retry_after=_microseconds(asked.retry_after))
        except (error.TelegramError, TimeoutError) as failed:
            return self._failure(failed, is_answer_lost=_is_answer_lost(failed))
        return None

    def _picture(self, alerts: Sequence[Alert]) -> bytes | None:
        if self._draw is None or len(alerts) > 1 or alerts[0].id in self._unseen:
            return None
        try:
            return self._draw(alerts[0])
        except Exception as failed:  # noqa: BLE001 - whatever is wrong with it, the text must arrive
            log.warning("alert %s goes without a picture: %s", alerts[0].id, failed)
            return None

    async def _call(self, message: str, caption: str, picture: bytes | None) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            if picture is None:
                await self._bot.send_message(
                    self._chat, message, parse_mode="HTML", disable_web_page_preview=True
                )
            else:
                await self._bot.send_photo(self._chat, picture, caption, parse_mode="HTML")

    def _failure(
        self, failed: Exception, *, is_permanent: bool = False, is_answer_lost: bool = False
    ) -> Failure:
        reason = f"{type(failed).__name__}: {failed}".replace(self._token, "***")
        return Failure(f"Telegram: {reason}", is_permanent=is_permanent, is_answer_lost=is_answer_lost)

    def close(self) -> None:
        """Close its connections."""
        self._runner.run(self._request.shutdown())
        self._runner.close()


def text(alerts: Sequence[Alert], most: int) -> str:
    """The message in Telegram's HTML: of one alert all that it knows, of several their titles."""
    if len(alerts) > 1:
        return cut("\n".join([bold(digest_title(alerts)), *map(safe, digest_lines(alerts))]), most)
    (alert,) = alerts
    mark = _SIGNALS.get(str(alert.payload.get("signal_type")), _MARKS.get(alert.severity, ""))
    return cut("\n".join([f"{mark}{bold(alert.title)}", *map(safe, lines(alert)), safe(origin(alert))]), most)


def _is_answer_lost(failed: Exception) -> bool:
    """Whether Telegram may have taken what the call brought."""
    cause = failed.__cause__
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return False
    if isinstance(failed, error.InvalidToken):
        return False
    # An answer that is no JSON, of a gateway or cut off; or none at all. Else the server says that it failed.
    return cause is not None or isinstance(failed, TimeoutError) or type(failed) is error.TelegramError


def _microseconds(asked: int | timedelta) -> int:
    return round((asked.total_seconds() if isinstance(asked, timedelta) else asked) * MICROSECONDS)
