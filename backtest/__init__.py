"""One event kernel, the strategies that drive it, and what a run of them is worth."""
