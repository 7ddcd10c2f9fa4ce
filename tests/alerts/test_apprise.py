"""The channel through Apprise, to an SMTP server on this machine."""

import logging
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from alerts.channels.apprise import AppriseChannel
from market.errors import WrongUse
from tests.alerts.test_console import alert


class Mailbox:
    """Takes mail, or answers as told."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.answer


class OnAnyPort(Controller):
    """Its first client is itself, which must know the port."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def url(mailbox: Mailbox) -> Iterator[str]:
    controller = OnAnyPort(mailbox, hostname="127.0.0.1", port=0)
    controller.start()
    yield f"mailto://localhost:{controller.port}?from=tape@example.org&to=me@example.org&smtp=127.0.0.1"
    controller.stop()


def test_a_mail_has_all_that_the_alert_knows(mailbox: Mailbox, url: str) -> None:
    assert AppriseChannel(url).send([alert()]) is None
    (mail,) = mailbox.mails
    assert mail["Subject"] == "STRONG BUY BTC/USDT 1m on binance at 61,234.5"
    body = mail.get_body(("plain", "html"))
    assert body is not None
    assert "RSI(14) = 27.3" in body.get_content()


def test_many_are_one_mail(mailbox: Mailbox, url: str) -> None:
    assert AppriseChannel(url).send([alert(id=1), alert(id=2, severity="warning")]) is None
    (mail,) = mailbox.mails
    assert mail["Subject"] == "2 alerts, 1 warning"


def test_a_title_over_two_lines_adds_no_header(mailbox: Mailbox, url: str) -> None:
    assert AppriseChannel(url).send([alert(title="one\r\nBcc: evil@example.org")]) is None
    (mail,) = mailbox.mails
    assert mail["Subject"] == "one Bcc: evil@example.org"
    assert mail["Bcc"] is None


def test_what_is_refused_may_have_arrived_all_the_same(
    mailbox: Mailbox, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mailbox.answer = "451 later"
    failure = AppriseChannel(f"{url}&name=mail-secret").send([alert()])
    assert failure is not None
    assert failure.is_answer_lost
    assert not failure.is_permanent
    said = failure.reason + "".join(
        str(record.__dict__)
        for record in caplog.records
        # What the server of this test says of itself.
        if record.name != "mail.log"
    )
    assert "mail-secret" not in said
    assert "me@example.org" not in said


def test_a_url_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(WrongUse, match="does not understand") as caught:
        AppriseChannel("nonsense://password-secret@nowhere")
    assert "secret" not in str(caught.value)
