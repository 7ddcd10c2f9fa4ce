"""Measurements, each beside the bare work that bounds it: python -m benchmarks NAME [--json]."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        what: was measured.
        value: how much.
        unit: of it.
        bound: the bare work of the same run, in the same unit; None where the figure is one itself.
    """

    what: str
    value: float
    unit: str
    bound: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure over its bound."""
        return None if self.bound is None else self.value / self.bound

    def plain(self) -> dict[str, object]:
        """It as plain data, the ratio included."""
        return asdict(self) | {"ratio": self.ratio}


Figures = list[Figure]
