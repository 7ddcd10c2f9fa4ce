"""Everything but the market that decides a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from backtest.account import Account
from backtest.labels import label
from backtest.policies import Policy
from backtest.strategies import Number, Strategy, find
from market.errors import WrongUse
from market.instrument import MarketType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.own_policies import OwnPolicy

_POLICY_KINDS = {name: type(value) for name, value in asdict(Policy()).items()}


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything but the candles that decides a run.

    Attributes:
        strategy: gives the signals.
        values: every parameter of the strategy.
        policy: turns signals into orders.
        account: what trades.
        sources: what beside the candles of one instrument the run is fed with, and where its costs are from,
            as plain data; empty where that is nothing.
        own: the policy that takes the place of the shipped one, if any.
    """

    strategy: Strategy
    values: Mapping[str, Number]
    policy: Policy
    account: Account
    sources: Mapping[str, Any] = field(default_factory=dict)
    own: OwnPolicy | None = None

    def config(self) -> dict[str, Any]:
        """It as plain data, as stored beside a run's results."""
        account = _plain(self.account)
        account["market_type"] = str(self.account.market_type)
        account["lags"] = list(self.account.lags)
        defaults = self.strategy.defaults
        return {
            "parameters": dict(self.values),
            "changed": {name: value for name, value in self.values.items() if value != defaults[name]},
            "policy": _plain(self.policy),
            "account": account,
            **({"sources": dict(self.sources)} if self.sources else {}),
        }

    @property
    def label(self) -> str:
        """Strategy, parameters and what of the policy is set, in one line."""
        return f"{self.strategy.name} {label(self.config())}".strip()


def _plain(values: Account | Policy) -> dict[str, Any]:
    """As `asdict` of what holds plain values alone, and a tenth of its time: a sweep asks of every run."""
    return {each.name: getattr(values, each.name) for each in fields(values)}


def setup(
    strategy: str | Strategy,
    parameters: Mapping[str, Number] | None = None,
    account: Account | None = None,
    sources: Mapping[str, Any] | None = None,
) -> Setup:
    """A setup from parameters of the strategy and of the policy (fraction, stop, target, …) together.

    Raises:
        WrongUse: an unknown strategy or parameter, a value that makes no sense, shorts on a spot market.
    """
    strategy = find(strategy) if isinstance(strategy, str) else strategy
    account = account or Account()
    given: dict[str, Any] = {**strategy.policy, **(parameters or {})}
    protection = {name: given.pop(name) for name in list(given) if name in _POLICY_KINDS}
    policy = Policy(**{name: _POLICY_KINDS[name](value) for name, value in protection.items()})
    if policy.shorts and account.market_type is MarketType.SPOT:
        raise WrongUse("a spot market has no shorts: use the market type margin or linear, or shorts=0")
    return Setup(strategy, strategy.parameters(given), policy, account, sources or {})
