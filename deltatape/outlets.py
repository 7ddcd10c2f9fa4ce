"""The channels that the settings name, ready to send, with the limits of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from alerts.dispatcher import Outlet
from alerts.pace import Limits
from alerts.plan import Policy
from alerts.telegram.limits import GAP, GROUP_PER_MINUTE, place
from deltatape.logs import hide
from market import MICROSECONDS, WrongUse
from storage.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import Console

    from alerts.channels import Channel
    from alerts.channels.telegram import TelegramChannel
    from deltatape.alert_options import ChannelOptions
    from deltatape.settings import Settings

DIGEST_FROM = 5
"""Alerts that wait for people become one message from so many on."""
BATCH = 100
"""Alerts in one call of a webhook."""


def outlets(
    settings: Settings, console: Console, url: str | None, *, only: Collection[str] | None = None
) -> dict[str, Outlet]:
    """A way out for each channel of the settings, by name.

    Args:
        settings: `[alerts]` and `[telegram]`.
        console: where a console channel prints.
        url: the database that pictures are drawn from; None: there are none.
        only: these channels; None: all.

    Raises:
        WrongUse: a channel cannot be made from what is set.
    """
    made = {}
    for name, options in settings.alerts.channels.items():
        if only is not None and name not in only:
            continue
        limits, policy = _limits(options), Policy(attempts=options.attempts)
        if options.telegram is None:
            made[name] = Outlet(_channel(options, console), limits, policy)
        else:
            telegram = _telegram(name, options, settings, url)
            chat = place(options.telegram)
            made[name] = Outlet(telegram, limits, policy, follow_up=telegram.add_picture, place=chat)
    return made


def _channel(options: ChannelOptions, console: Console) -> Channel:
    # Each of these libraries takes its time to load.
    if options.apprise is not None:
        from alerts.channels.apprise import AppriseChannel

        hide(options.apprise.get_secret_value())
        return AppriseChannel(options.apprise.get_secret_value())
    if options.webhook is not None and options.secret is not None:
        from alerts.channels.webhook import WebhookChannel

        address, secret = options.webhook.get_secret_value(), options.secret.get_secret_value()
        hide(address, secret)
        return WebhookChannel(address, secret, wall_clock)
    from alerts.channels.console import ConsoleChannel

    return ConsoleChannel(console)


def _telegram(name: str, options: ChannelOptions, settings: Settings, url: str | None) -> TelegramChannel:
    from alerts.channels.telegram import TelegramChannel

    if settings.telegram.token is None:
        raise WrongUse(f"channel {name}: set DELTATAPE_TELEGRAM__TOKEN to what @BotFather gave")
    token = settings.telegram.token.get_secret_value()
    hide(token)
    draw = None
    if options.pictures and url is not None:
        from alerts.pictures import alert_png

        draw = partial(alert_png, url, theme=settings.telegram.theme)
    gap = GAP / MICROSECONDS
    return TelegramChannel(token, options.telegram or "", settings.telegram.api_url, draw, gap_seconds=gap)


def _limits(options: ChannelOptions) -> Limits:
    gap, per_minute = round(options.every * MICROSECONDS), options.per_minute
    digest_from, most = options.digest_from, 1_000
    if options.telegram is not None:
        gap = max(gap, GAP)
        if options.is_group:
            per_minute = min(per_minute or GROUP_PER_MINUTE, GROUP_PER_MINUTE)
    if options.telegram is not None or options.apprise is not None:
        digest_from = digest_from or DIGEST_FROM
    if options.webhook is not None:
        digest_from, most = digest_from or 2, BATCH
    return Limits(gap, per_minute, digest_from, most, options.quiet_times())
