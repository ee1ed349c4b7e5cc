"""Import a module's mutated source in place of its own, in this process alone."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tests.mutants.mutant import Mutant


class _Loader(SourceFileLoader):
    """Compiles the mutated text; no bytecode is read or written."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant, root: Path) -> None:
        self._texts = {
            str(root / file): mutant.mutated(file, (root / file).read_text(encoding="utf-8"))
            for file in mutant.files()
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin not in self._texts:
            return None
        spec.loader = _Loader(fullname, spec.origin, self._texts[spec.origin])
        return spec


class TooLate(Exception):
    """A module that is to be mutated was imported before."""


def install(mutant: Mutant, *, root: Path) -> None:
    """Let every later import of the mutant's files meet the bug; raises Unhooked, TooLate."""
    names = {file.removesuffix(".py").replace("/", ".") for file in mutant.files()}
    if early := names & set(sys.modules):
        raise TooLate(f"imported before the mutant was there: {sorted(early)}")
    sys.meta_path.insert(0, _Finder(mutant, root))
