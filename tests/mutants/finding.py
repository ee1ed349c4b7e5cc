"""What became of a mutant: the seed that found it, and by what it was found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`seed` is None for a mutant that lived; `sentence` is the first complaint; `trouble` says
    why there is no verdict at all."""

    mutant: str
    seed: int | None
    schedules: int = 0
    seconds: float = 0.0
    sentence: str = ""
    trouble: str = ""

    @property
    def how(self) -> str:
        """What the bug showed itself by: an exception, no rest, or a broken invariant."""
        if " raised " in self.sentence or self.sentence.startswith("logged: "):
            return "exception"
        if self.sentence.startswith(("not at rest", "no end")):
            return "no rest"
        return "invariant"
