import pytest

from backtest.account import Account
from backtest.policies import Policy
from backtest.setup import setup
from market import MarketType, WrongUse


@pytest.mark.parametrize(
    "values",
    [
        {"capital": 0.0},
        {"capital": float("nan")},
        {"fee_bps": -1.0},
        {"fee_bps": 10_000.0},
        {"maker_bps": -0.1},
        {"slippage_bps": float("nan")},
        {"lot": -1.0},
        {"lot": float("inf")},
        {"market_type": MarketType.INVERSE},
    ],
)
def test_accounts_that_cannot_be(values):
    with pytest.raises(WrongUse):
        Account(**values)


def test_the_maker_pays_the_takers_fee_unless_told():
    def rate(account):
        return account.state()["instruments"][0]["maker"][0]

    assert rate(Account(fee_bps=7.0)) == 0.0007
    assert rate(Account(fee_bps=7.0, maker_bps=2.0)) == 0.0002


@pytest.mark.parametrize(("lot", "digits", "scale"), [(0.0, 0, 1), (0.05, 5, 100), (25.0, 25, 1)])
def test_a_lot_is_kept_as_a_decimal(lot, digits, scale):
    one = Account(lot=lot, tick=lot).state()["instruments"][0][0]
    assert (one["lot_digits"], one["lot_scale"]) == (digits, scale)
    assert (one["tick_digits"], one["tick_scale"]) == (digits, scale)


@pytest.mark.parametrize(
    "values",
    [
        {"fraction": 0.0},
        {"fraction": 1.1},
        {"stop": 1.0},
        {"stop": -0.1},
        {"target": float("nan")},
        {"enter_at": -1},
        {"exit_at": -3},
    ],
)
def test_policies_that_cannot_be(values):
    with pytest.raises(WrongUse):
        Policy(**values)


def test_spot_has_no_shorts():
    with pytest.raises(WrongUse, match="margin or linear"):
        setup("ema_cross", {"shorts": 1})
    assert setup("ema_cross", {"shorts": 1}, Account(market_type=MarketType.MARGIN)).policy.shorts is True


def test_the_config_is_plain_data():
    config = setup("ema_cross", {"slow": 50, "stop": 0.02}).config()
    assert config["parameters"] == {"fast": 12, "slow": 50}
    assert config["policy"]["stop"] == 0.02
    assert config["account"]["market_type"] == "spot"
    assert type(config["account"]["market_type"]) is str
