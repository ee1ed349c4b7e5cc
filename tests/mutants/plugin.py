"""`pytest -p tests.mutants.plugin` with MUTANT=name: the tests meet that bug."""

import os

from tests.mutants.hook import install
from tests.mutants.mutant import ROOT
from tests.mutants.registry import named

install(named(os.environ["MUTANT"]), root=ROOT)
