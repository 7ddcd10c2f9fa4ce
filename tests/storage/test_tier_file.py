"""A day as a Parquet file: the same values again whatever they are, and small where they are a market's."""

from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from storage.fingerprint import of_frame
from storage.tier_file import decode, encode

NOON = 1_700_000_000_000_000
SCHEMA = {
    "timestamp": pl.Datetime("us", "UTC"),
    "symbol": pl.String,
    "trade_id": pl.String,
    "trade_seq": pl.Int64,
    "depth": pl.Int32,
    "price": pl.Float64,
    "cvd": pl.Float64,
    "is_closed": pl.Boolean,
}
moments = st.integers(0, 2**52)
texts = st.one_of(st.none(), st.text(max_size=5))
numbers = st.integers(-(2**63), 2**63 - 1)
decimals = st.builds(
    lambda digits, scale: digits / 10**scale, st.integers(-(10**12), 10**12), st.integers(0, 9)
)
floats = st.floats(allow_nan=False, allow_infinity=False)
flags = st.one_of(st.none(), st.booleans())


@given(
    st.one_of(st.just(decimals), st.just(floats), st.just(st.one_of(st.none(), floats))).flatmap(
        lambda values: st.lists(
            st.tuples(moments, texts, texts, numbers, st.integers(0, 99), values, values, flags), max_size=20
        )
    )
)
def test_any_rows_come_back_bit_by_bit(rows: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    again = decode(encode(frame))
    assert_frame_equal(again, frame, check_exact=True)
    assert of_frame(again) == of_frame(frame)


def test_the_zeros_keep_their_signs() -> None:
    frame = pl.DataFrame({"timestamp": [1, 2, 3], "x": [0.0, -0.0, 1.5]})
    again = decode(encode(frame))
    assert list(np.signbit(again["x"].to_numpy())) == [False, True, False]


def test_a_market_s_numbers_are_decimals_to_any_reader() -> None:
    frame = pl.DataFrame({"price": [65_000.01, 65_000.5], "noise": [0.1 + 0.2, 1 / 3], "many": [1e300, 0.1]})
    schema = pq.read_schema(BytesIO(encode(frame)))
    assert [str(schema.field(name).type) for name in frame.columns] == [
        "decimal128(18, 2)",
        "double",
        "double",
    ]


def test_a_day_is_small() -> None:
    random = np.random.default_rng(1)
    rows = 20_000
    units = np.rint(np.exp(random.normal(4, 1.8, rows))).astype(np.int64) + 1
    signs = random.choice((-1, 1), rows)
    frame = pl.DataFrame(
        {
            "timestamp": NOON + np.cumsum(random.integers(0, 200, rows)) * 1000,
            "symbol": ["BTC/USDT"] * rows,
            "trade_id": [str(4_000_000_000 + number) for number in range(rows)],
            "trade_seq": np.arange(rows) + 4_000_000_000,
            "price": (6_500_000 + np.cumsum(random.integers(-2, 3, rows))) / 100,
            "size": units / 1e5,
            "side": np.where(signs > 0, "buy", "sell"),
            "cvd_at_trade": np.cumsum(units * signs) / 1e5,
        }
    )
    assert len(encode(frame)) < 9 * rows


@pytest.mark.parametrize("body", [b"", b"PAR1", b"no such file" * 9])
def test_what_is_no_such_file_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(body)
