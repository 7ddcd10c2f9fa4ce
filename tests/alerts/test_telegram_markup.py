"""Texts: escaped, cut where Telegram would refuse them, never cut inside of markup."""

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.telegram.markup import MOST_DATA, again, bold, code, cut, opening, paged, safe
from alerts.telegram.words import age, duration, money, number, percent, plural, share, signed
from tests.alerts.bot_words import seen

LINES = st.lists(st.builds(lambda text, kind: kind(text), st.text(), st.sampled_from([safe, bold, code])))


@settings(max_examples=40)
@given(LINES, st.integers(400, 5000))
def test_every_text_fits_and_parses(lines, most):
    whole = "\n".join(lines)
    short = cut(whole, most)
    assert len(short.encode("utf-16-le")) // 2 <= most
    assert len(seen(short)) <= len(seen(whole)) + 24
    if short != whole:
        kept = short.split("\n")
        assert kept[:-1] == whole.split("\n")[: len(kept) - 1]
        assert kept[-1].startswith(f"… {len(whole.splitlines()) - len(kept) + 1} more line")


@settings(max_examples=40)
@given(st.text())
def test_data_stays_what_it_is_in_one_line(text):
    shown = seen(safe(text))
    assert "\n" not in shown
    assert len(shown) <= 300
    if text.isprintable() and len(text) <= 300:
        assert shown == text


@settings(max_examples=40)
@given(st.text())
def test_no_button_carries_too_much(line):
    for button in (
        *again(line),
        *opening("x", line),
        *(each for row in paged(line, 3, has_more=True) for each in row),
    ):
        assert len(button.data.encode()) <= MOST_DATA


def test_numbers_are_written_as_people_read_them():
    assert [number(each) for each in (None, 0.0, 50000.0, 1e-7, 123456.789, 1e15)] == [
        "–", "0", "50,000", "0.0000001", "123,456.789", "1,000,000,000,000,000"
    ]  # fmt: skip
    assert [signed(each) for each in (None, 0.0, 7.0, -1234.5, 1e9)] == [
        "–",
        "+0",
        "+7",
        "-1,234",
        "+1,000,000,000",
    ]
    assert [money(each) for each in (None, 0.0, -1234.567)] == ["–", "+0.00", "-1,234.57"]
    assert [percent(1.234), percent(None), share(1, 3), share(0, 0)] == ["+1.23%", "–", "33%", "–"]
    assert [duration(each) for each in (0.4, 59, 90, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "1.5 min",
        "2 h",
        "2.3 d",
    ]
    assert [age(2), age(61)] == ["2 s ago", "⚠ stale, 1 min old"]
    assert [plural(1, "hole"), plural(2000, "hole"), plural(2, "person", "people")] == [
        "1 hole",
        "2,000 holes",
        "2 people",
    ]
