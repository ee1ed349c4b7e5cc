"""Every mutant still fits the source it changes, and was found: a refactoring unhooks none unseen."""

import re

import pytest

from tests.mutants import table
from tests.mutants.mutant import ROOT, Edit, Mutant, Unhooked
from tests.mutants.registry import ABSENT, MUTANTS, UNDECIDED, VARIANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_words_of_a_mutant_stand_in_the_source_once(mutant: Mutant) -> None:
    for file in mutant.files():
        source = (ROOT / file).read_text(encoding="utf-8")

        mutated = mutant.mutated(file, source)

        assert mutated != source
        compile(mutated, file, "exec")


def test_words_that_are_gone_or_doubled_are_told() -> None:
    edit = Edit("checkout/dunning.py", "three", "four")

    for source in ("two", "three and three"):
        with pytest.raises(Unhooked):
            edit.applied_to(source)


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]

    assert len(set(names)) == len(names)


def test_at_least_forty_are_found_by_the_simulation_within_300_schedules() -> None:
    seeds = table.read_seeds()

    assert len(seeds) >= 40
    assert max(seeds.values()) < 300


def test_every_mutant_has_a_known_seed_or_a_test_that_is_there_or_is_undecided() -> None:
    seeds = table.read_seeds()
    for mutant in MUTANTS:
        if mutant.killed_by:
            path, _, name = mutant.killed_by.partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
        else:
            assert (mutant.name in seeds) != (mutant.name in UNDECIDED)


def test_every_variant_of_the_model_is_a_mutant_or_says_why_not() -> None:
    """The holes that the exhaustive search of the model found (docs/states.md)."""
    named = {name for mutant in MUTANTS for name in re.findall(r"model: (\w+)", mutant.source)}

    assert named | set(ABSENT) == set(VARIANTS)
    assert not named & set(ABSENT)


def test_the_page_is_what_registry_and_seeds_say() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
