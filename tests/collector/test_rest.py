"""REST over a real HTTP server: no faster than allowed, silent when told to be, and no word too much."""

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from collector import rest as module
from collector.exchanges.adapter import RestRequest
from collector.rest import Refused, Rest, retry_after
from market import Unavailable

FAST = (1e6, 1e6)


def answer(status=200, body=b"{}", **headers):
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines])
    return f"{head}\r\n\r\n".encode() + body


@asynccontextmanager
async def answering(*answers):
    """A server that gives these answers in turn, the last one for ever, and the times it was asked at.

    None is no answer at all.
    """
    asked, headers = [], []

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                asked.append((line.split()[1].decode(), asyncio.get_running_loop().time()))
                while header := (await reader.readline()).strip():
                    headers.append(header.decode())
                given = answers[min(len(asked), len(answers)) - 1]
                if given is None:
                    await asyncio.Event().wait()
                writer.write(given)
                await writer.drain()
                if b"Content-Length: 1000\r\n" in given:
                    return  # in the middle of the body
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked, headers
        finally:
            server.close()


@asynccontextmanager
async def asking(base, rate=FAST, on_answer=lambda _url, _body: None):
    rest = Rest("binance", base, rate, on_answer)
    try:
        yield rest
    finally:
        await rest.close()


def test_a_body_is_given_and_told_of():
    told = []

    async def scenario():
        async with answering(answer(body=b"[1]")) as (base, asked, _):
            async with asking(base + "/", on_answer=lambda *what: told.append(what)) as rest:
                assert rest.is_there
                assert await rest.get(RestRequest("/x?y=1")) == b"[1]"
            assert [path for path, _ in asked] == ["/x?y=1"]
            assert told == [(f"{base}/x?y=1", b"[1]")]

    asyncio.run(scenario())


def test_without_an_address_there_is_nothing_to_ask():
    async def scenario():
        async with asking("") as rest:
            assert not rest.is_there
            assert await rest.get(RestRequest("/x")) is None

    asyncio.run(scenario())


def test_weight_is_spent_at_the_allowed_rate():
    async def scenario():
        async with answering(answer()) as (base, asked, _), asking(base, (20.0, 10.0)) as rest:
            # Ten may be spent at once; thirty more take 1.5 s, whoever asks, and in the order of asking.
            requests = [RestRequest(f"/{n}", weight) for n, weight in enumerate((5.0, 5.0, 10.0, 10.0, 10.0))]
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*map(rest.get, requests))
            waits = {path: at - began for path, at in asked}
            assert waits["/2"] >= 0.5 - 0.01
            assert waits["/3"] >= 1.0 - 0.01
            assert waits["/4"] >= 1.5 - 0.01

    asyncio.run(scenario())


def test_a_request_that_weighs_more_than_can_be_spent_at_once_is_asked_all_the_same():
    async def scenario():
        async with answering(answer()) as (base, *_), asking(base, (100.0, 10.0)) as rest:
            assert await rest.get(RestRequest("/x", weight=5_000.0)) == b"{}"

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [429, 418])
def test_silence_is_kept_for_as_long_as_was_asked_for(status, caplog):
    caplog.set_level(logging.WARNING)

    async def scenario():
        async with answering(answer(status, Retry_After="1"), answer()) as (base, asked, _):
            async with asking(base) as rest:
                with pytest.raises(Refused, match="silent for 1 s"):
                    await rest.get(RestRequest("/a"))
                assert 0 < rest.blocked_for <= 1
                assert rest.refusals == 1
                assert await asyncio.gather(*(rest.get(RestRequest(f"/{n}")) for n in "bc")) == [b"{}"] * 2
                assert rest.blocked_for == 0
            assert min(at for _, at in asked[1:]) - asked[0][1] >= 1.0 - 0.01

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        f"binance: too many requests ({status}): silent for 1 s"
    ]


def test_without_a_number_silence_grows_until_an_answer_comes(monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_PAUSE", 0.05)
    monkeypatch.setattr(module, "MAX_PAUSE", 0.15)
    longest = (0.05, 0.1, 0.15, 0.15, 0.0, 0.05)

    async def scenario():
        answers = [*[answer(429)] * 4, answer(), answer(403)]
        async with answering(*answers) as (base, asked, _), asking(base) as rest:
            for most in longest:
                with suppress(Refused):
                    await rest.get(RestRequest("/x"))
                assert rest.blocked_for <= most
            return [at for _, at in asked]

    waits = [after - before for before, after in pairwise(asyncio.run(scenario()))]
    assert all(wait >= least - 0.01 for wait, least in zip(waits, longest, strict=False))


def test_what_is_not_there_is_none():
    async def scenario():
        async with answering(answer(404, b'{"code":-1121}')) as (base, *_), asking(base) as rest:
            assert await rest.get(RestRequest("/x")) is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "given",
    [
        answer(500, b"broken " * 1000),
        answer(301, Location="http://127.0.0.1:1/"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[1,2",
        b"no HTTP at all\r\n\r\n",
        answer(body=b"no gzip", Content_Encoding="gzip"),
        None,
    ],
    ids=["500", "redirect", "cut", "nonsense", "encoding", "timeout"],
)
def test_whatever_goes_wrong_is_unavailable_in_few_words(given, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    told = []

    async def scenario():
        async with (
            answering(given) as (base, *_),
            asking(base, on_answer=lambda *what: told.append(what)) as rest,
        ):
            with pytest.raises(Unavailable) as caught:
                await rest.get(RestRequest("/x?symbol=A"))
        return str(caught.value)

    said = asyncio.run(scenario())
    assert "/x?symbol=A" in said
    assert len(said) < 400
    assert told == []


def test_nobody_there_is_unavailable():
    async def scenario():
        async with asking("http://127.0.0.1:9") as rest:
            with pytest.raises(Unavailable, match="cannot reach binance"):
                await rest.get(RestRequest("/x"))

    asyncio.run(scenario())


def test_a_name_and_password_in_the_address_are_in_no_message(caplog):
    caplog.set_level(logging.DEBUG)
    said = []

    async def scenario():
        answers = (answer(500), answer(429, Retry_After="0"), answer(body=b"[1]"), None)
        async with answering(*answers) as (base, asked, headers):
            base = base.replace("http://", "http://somebody:pa55word@")
            async with asking(base, on_answer=lambda url, _: said.append(url)) as rest:
                for _ in range(2):
                    with pytest.raises(Unavailable) as caught:
                        await rest.get(RestRequest("/x"))
                    said.append(str(caught.value))
                assert await rest.get(RestRequest("/x")) == b"[1]"
            assert len(asked) == 3
            assert "Authorization: Basic c29tZWJvZHk6cGE1NXdvcmQ=" in headers
        async with asking("http://somebody:pa55word@127.0.0.1:9") as rest:
            with pytest.raises(Unavailable) as caught:
                await rest.get(RestRequest("/x"))
            said.append(str(caught.value))

    asyncio.run(scenario())
    said += [record.getMessage() for record in caplog.records]
    assert len(said) >= 4
    assert [text for text in said if "pa55word" in text] == []


def test_a_retry_after_is_a_number_or_a_date_within_reason():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after(None) is None
    assert retry_after("7") == 7
    assert retry_after("0.5") == 0.5
    assert retry_after("-3") == 0
    assert 80 < retry_after(soon) <= 90
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("1e99") == 3 * 86_400
    assert retry_after("soon") is None
    assert retry_after("nan") is None
    assert retry_after("inf") == 3 * 86_400
