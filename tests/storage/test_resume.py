from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streaming import EXCHANGE, SYMBOL, Streaming, cut, random_tape

from storage.database import Connection
from storage.resume import load


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_stream_goes_on_as_if_it_had_never_stopped(connection: Connection, seed: int) -> None:
    random = Random(seed)
    spans, books = random_tape(random)
    whole = Streaming().run(spans, books)
    first_spans, first_books, later_spans, later_books = cut(random, spans, books)
    first = Streaming().run(first_spans, first_books)
    with connection.transaction(force_rollback=True):
        first.write(connection)
        resume = load(connection, EXCHANGE, SYMBOL)
    assert resume is not None
    assert resume.last == first_spans[-1].trades[-1]
    assert resume.covered_until == first_spans[-1].until
    streaming = Streaming(resume.candles, resume.cvd)
    later = streaming.run(later_spans, later_books, is_continued=True)
    assert first.trades + later.trades == whole.trades
    assert first.points | later.points == whole.points
    assert first.candles | later.candles == whole.candles


def test_nothing_stored_is_nothing_to_go_on_from(connection: Connection) -> None:
    assert load(connection, EXCHANGE, SYMBOL) is None
