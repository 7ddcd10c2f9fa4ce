"""The past over REST: asks what an adapter's conversation wants to know, and hands its pages on."""

from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

from collector.exchanges.adapter import MalformedMessage, RestRequest
from collector.rest import Rest
from market import Unavailable

Page = TypeVar("Page")
_MAX_FRUITLESS = 10_000


async def pages(rest: Rest, asking: Generator[RestRequest | Page, bytes, None]) -> AsyncGenerator[Page, None]:
    """The pages of a conversation, as they come. Every wait, and every limit, is `rest`'s.

    Raises:
        Unavailable: the exchange does not answer, does not have what was asked for, or its answer is damaged.
    """
    fruitless = 0
    try:
        item = next(asking)
        while True:
            if isinstance(item, RestRequest):
                fruitless += 1
                if fruitless > _MAX_FRUITLESS:
                    raise Unavailable(f"{rest.exchange}: {_MAX_FRUITLESS} answers without a trade")
                item = asking.send(await _body(rest, item))
            else:
                fruitless = 0
                yield item
                item = next(asking)
    except StopIteration:
        return
    except MalformedMessage as error:
        raise Unavailable(f"{rest.exchange} gives no history: {error}") from None
    finally:
        asking.close()


async def _body(rest: Rest, request: RestRequest) -> bytes:
    body = await rest.get(request)
    if body is None:
        raise Unavailable(f"{rest.exchange} has no {request.path}")
    return body
