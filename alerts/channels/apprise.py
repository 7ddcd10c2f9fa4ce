"""A channel through Apprise: e-mail, Discord, Slack and a hundred other services, by their URL.

The URLs: https://github.com/caronc/apprise/wiki. They hold passwords and tokens, so neither they nor anything
that Apprise logs is ever passed on.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import apprise

from alerts.plan import Failure
from alerts.texts import digest_lines, digest_title, lines, origin, title
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.outbox import Alert

_KINDS = {"warning": apprise.NotifyType.WARNING, "critical": apprise.NotifyType.FAILURE}
# It names addresses, and at lower levels the whole of what it sends.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class AppriseChannel:
    """Sends to one service.

    Args:
        url: as Apprise writes it, such as `mailtos://user:password@example.org?to=me@example.org`.

    Raises:
        WrongUse: Apprise does not know such a URL.
    """

    def __init__(self, url: str) -> None:
        with warnings.catch_warnings():
            # Its plugins, which it loads now, use what later Pythons lack; so do those have another way.
            warnings.simplefilter("ignore", DeprecationWarning)
            service = apprise.Apprise.instantiate(url)
        if service is None:
            raise WrongUse("Apprise does not understand the URL of a channel: see docs/alerts.md")
        self._name = str(service.service_name)
        self._service = apprise.Apprise()
        self._service.add(service)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """Send these in one message; Apprise does not tell why one failed, nor whether part of it arrived."""
        if len(alerts) > 1:
            subject, body = digest_title(alerts), digest_lines(alerts)
        else:
            subject, body = title(alerts[0]), [*lines(alerts[0]), origin(alerts[0])]
        taken = self._service.notify(
            title=" ".join(subject.split()),
            body="\n".join(body),
            body_format=apprise.NotifyFormat.TEXT,
            notify_type=_KINDS.get(alerts[0].severity, apprise.NotifyType.INFO),
        )
        return None if taken else Failure(f"{self._name} did not take it", is_answer_lost=True)

    def close(self) -> None:
        """It holds nothing."""
