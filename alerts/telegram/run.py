"""Running the bot until it is stopped, over long polling or a webhook."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from telegram import Update
from telegram.error import InvalidToken, TelegramError
from telegram.ext import Application, ApplicationBuilder, ContextTypes, TypeHandler
from telegram.request import HTTPXRequest

from alerts.charts import warm_up
from alerts.telegram.access import Access
from alerts.telegram.answering import Answers
from alerts.telegram.bot import UPDATES, TelegramBot
from alerts.telegram.limiter import Limiter
from alerts.telegram.polling import poll
from alerts.telegram.secret import hidden
from alerts.telegram.turns import SharedTurns
from alerts.telegram.webhook import listening
from market import Unavailable, WrongUse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from threading import Event

    from alerts.charts import Theme

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Updates that are answered side by side."""
CALL_SECONDS = 20.0
STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.2
REFUSED = "Telegram does not know this token; set telegram.token to the one that @BotFather gave"


@dataclass(frozen=True, slots=True, kw_only=True)
class BotOptions:
    """A bot.

    Attributes:
        token: from @BotFather.
        users: ids of those who may ask.
        channels: of alerts, by name; the first is what /mute means.
        own: of chats that alerts go to, by which channel: there /mute means that one.
        api_url: of the Bot API's server.
        theme: how pictures look.
        webhook_url: where Telegram brings updates; None: they are asked for.
        webhook_listen: host and port that `webhook_url` leads to.
        call_seconds: how long one call may take.
    """

    token: str
    users: frozenset[int]
    channels: tuple[str, ...] = ("console",)
    own: Mapping[int, str] = field(default_factory=dict)
    api_url: str = "https://api.telegram.org"
    theme: Theme = "dark"
    webhook_url: str | None = None
    webhook_listen: str = "127.0.0.1:8443"
    call_seconds: float = CALL_SECONDS

    def __repr__(self) -> str:
        """Without the token."""
        return f"BotOptions(users={sorted(self.users)}, api_url={self.api_url!r})"


def run(url: str, options: BotOptions, stop: Event, ready: Callable[[str], None] | None = None) -> None:
    """Answer on Telegram until `stop` is set.

    Args:
        url: the database.
        options: the bot.
        stop: set to end; what is being answered is answered first.
        ready: told the bot's name once it listens.

    Raises:
        WrongUse: Telegram does not know the token, or the webhook's address cannot be had.
        Unavailable: Telegram cannot be reached, or another program polls with this token.
    """
    asyncio.run(_run(url, options, stop, ready))


async def _run(url: str, options: BotOptions, stop: Event, ready: Callable[[str], None] | None) -> None:
    bot = TelegramBot(Answers(url, options.theme, options.channels, options.own), Access(options.users))
    application = _application(url, options, bot)
    try:
        async with application:
            await application.start()
            loading = asyncio.create_task(asyncio.to_thread(warm_up))
            try:
                if ready is not None:
                    ready(application.bot.username)
                await _until(stop, _webhook if options.webhook_url else _poll, application, options)
            finally:
                with suppress(TimeoutError):
                    await asyncio.wait_for(application.stop(), STOP_SECONDS)
                await loading
    except InvalidToken:
        raise WrongUse(REFUSED) from None
    except TelegramError as error:
        # Not its cause: that one's text holds the address of the call.
        reason = hidden(error, options.token)
        raise Unavailable(f"Telegram at {urlsplit(options.api_url).hostname}: {reason}") from None
    finally:
        # The library leaves its connections open where it cannot begin.
        await application.bot.shutdown()


async def _until(
    stop: Event, work: Callable[[Any, BotOptions], Awaitable[None]], application: Any, options: BotOptions
) -> None:
    """Do `work` until `stop` is set; its failure is raised."""
    updating = asyncio.ensure_future(work(application, options))
    stopping = asyncio.create_task(_stopped(stop))
    try:
        await asyncio.wait({updating, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (updating, stopping):
            task.cancel()
        (failure, _) = await asyncio.gather(updating, stopping, return_exceptions=True)
    if isinstance(failure, Exception):
        raise failure


def _application(
    url: str, options: BotOptions, bot: TelegramBot
) -> Application[Any, Any, Any, Any, Any, Any]:
    seconds = options.call_seconds

    def request(connections: int) -> HTTPXRequest:
        return HTTPXRequest(
            connection_pool_size=connections,
            connect_timeout=seconds,
            read_timeout=seconds,
            write_timeout=seconds,
            media_write_timeout=seconds,
            pool_timeout=seconds,
        )

    application = (
        ApplicationBuilder()
        .token(options.token)
        .base_url(f"{options.api_url}/bot")
        .request(request(AT_ONCE + 2))
        .get_updates_request(request(1))
        .rate_limiter(Limiter(SharedTurns(url)))
        .concurrent_updates(AT_ONCE)
        .job_queue(None)
        .updater(None)
        .build()
    )

    async def handle(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
        await bot.handle(update, context.bot)

    async def failed(_: object, context: ContextTypes.DEFAULT_TYPE) -> None:
        bot.failed += 1
        log.error("an update was not answered: %s", hidden(repr(context.error), options.token))

    application.add_handler(TypeHandler(Update, handle))
    application.add_error_handler(failed)
    return application


async def _poll(application: Application[Any, Any, Any, Any, Any, Any], _: BotOptions) -> None:
    await poll(application.bot, application.update_queue)


async def _webhook(application: Application[Any, Any, Any, Any, Any, Any], options: BotOptions) -> None:
    secret = secrets.token_urlsafe(32)
    bot, updates = application.bot, application.update_queue

    def take(data: dict[str, Any]) -> None:
        try:
            updates.put_nowait(Update.de_json(data, bot))
        except (KeyError, TypeError, AttributeError) as error:
            log.warning("an update that cannot be read: %s", type(error).__name__)

    with listening(options.webhook_listen, secret, take):
        await bot.set_webhook(str(options.webhook_url), allowed_updates=UPDATES, secret_token=secret)
        await asyncio.Event().wait()


async def _stopped(stop: Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(_LOOK_SECONDS)
