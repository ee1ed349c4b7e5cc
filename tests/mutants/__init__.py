"""Bugs put into the service on purpose, one at a time: each must be found, or the tests are blind.

`make mutants` tries every bug of `registry.py` against the seeded simulation; `python -m tests.mutants
--help` lists the rest. A bug that survives is a hole in the oracle, and is closed there.
"""
