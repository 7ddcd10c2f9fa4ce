"""Signals know nothing of random walks, and confidence keeps planted promises: at full scale.

`python -m tests.soak.quality [--walks 200] [--candles 20000] [--seeds 100]`
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from signals.options import HORIZONS
from signals.strategies import SHIPPED
from tests.signals.known_truth import coefficients, kept, walk

MOST_OUTSIDE = 20
"""Of 200 walks, by each strategy at each horizon: 10 on average, more than 20 once in a thousand times."""


def judged(candles: int, seed: int) -> list[tuple[str, int, bool]]:
    """Which strategies leave the band of their information coefficient at which horizons of one walk."""
    frame = walk(seed, candles)
    return [
        (name, horizon, found.is_outside)
        for name, made in SHIPPED.items()
        for horizon, found in zip(HORIZONS, coefficients(made(), frame, HORIZONS), strict=True)
    ]


def walks(count: int, candles: int) -> bool:
    """Whether every strategy leaves its band as rarely as it may."""
    outside: Counter[tuple[str, int]] = Counter()
    with ProcessPoolExecutor() as pool:
        for found in pool.map(partial(judged, candles), range(count)):
            outside.update((name, horizon) for name, horizon, is_outside in found if is_outside)
    sys.stdout.write(f"{count} walks of {candles:,} candles: coefficients outside their 95% band\n")
    for name in SHIPPED:
        counts = "  ".join(f"{horizon:>3} candles {outside[name, horizon]:>3}" for horizon in HORIZONS)
        sys.stdout.write(f"  {name:<16}{counts}\n")
    return max(outside.values(), default=0) <= MOST_OUTSIDE * count / 200


def promises(seeds: int) -> bool:
    """Whether held-out bins lie within their bands as often as bands of 95% are to be kept."""
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(partial(kept, fitted=20_000, held_out=4_000), range(seeds)))
    bins, outside, chance = map(sum, zip(*results, strict=True))
    most = chance + 3.1 * np.sqrt(chance)
    sys.stdout.write(
        f"{seeds} planted tapes, {bins} held-out bins: {outside} promises outside their band,"
        f" {chance:.0f} on average, at most {most:.0f}\n"
    )
    return bool(outside <= most)


def main() -> int:
    """Whether both hold: 0 if they do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=200)
    parser.add_argument("--candles", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    results = [walks(given.walks, given.candles), promises(given.seeds)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
