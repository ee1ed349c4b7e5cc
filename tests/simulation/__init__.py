"""A seeded simulation: the real use cases on a real PostgreSQL, everything around them in memory.

`python -m tests.simulation --seeds 200 --base 0` runs schedules, `--seed N` one of them again.
"""
