"""The Telegram bot that the settings describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltatape import settings
from deltatape.logs import hide
from market import WrongUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.telegram.run import BotOptions
    from deltatape.alert_options import ChannelOptions

WITHOUT_A_BOT = "set DELTATAPE_TELEGRAM__TOKEN to the token that @BotFather gave"
NO_USERS = "set telegram.allowed_users to the numbers of who may ask, which @userinfobot tells"


def is_configured(wanted: settings.Settings) -> bool:
    """Whether there is a bot, and somebody who may ask it."""
    return wanted.telegram.token is not None and bool(wanted.telegram.allowed_users)


def bot_options(wanted: settings.Settings) -> BotOptions:
    """The bot of `[telegram]`.

    Raises:
        WrongUse: it has no token, or nobody may ask it.
    """
    from alerts.telegram.run import BotOptions

    given = wanted.telegram
    if given.token is None:
        raise WrongUse(f"there is no Telegram bot: {WITHOUT_A_BOT}")
    if not given.allowed_users:
        raise WrongUse(f"nobody may ask the Telegram bot: {NO_USERS} (in {settings.config_file()})")
    token = given.token.get_secret_value()
    channels = wanted.alerts.channels
    hide(token)
    return BotOptions(
        token=token,
        users=frozenset(given.allowed_users),
        # Who mutes in a chat means what comes into chats.
        channels=tuple(sorted(channels, key=lambda name: channels[name].telegram is None)),
        own=_chats(channels),
        api_url=given.api_url,
        theme=given.theme,
        webhook_url=given.webhook_url,
        webhook_listen=given.webhook_listen,
    )


def _chats(channels: Mapping[str, ChannelOptions]) -> dict[int, str]:
    """The channel of each chat that has a number."""
    chats = {str(each.telegram): name for name, each in channels.items() if each.telegram is not None}
    return {int(chat): name for chat, name in chats.items() if not chat.startswith("@")}
