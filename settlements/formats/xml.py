"""Reading XML of strangers as it arrives: the texts of named paths, in bounded memory.

Built on the standard library's expat, which every release of Python keeps patched: pushed piece by
piece it holds no tree, and a document type is refused at its first byte. Without one there are no
entities, no external references and no billion laughs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from xml.parsers import expat

DEEPEST: Final = 40
# A text or a single tag beyond these is no statement's.
LONGEST_TEXT: Final = 10_000
LONGEST_TOKEN: Final = 1 << 20
# A batch may list thousands of payments in one entry; so many of each text are kept.
KEPT: Final = 20

_NOWHERE: Final = 0
_ROOT: Final = 1


class Hostile(Exception):
    """The file does what no statement does; `number` is the line, from 1."""

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(reason)


class Paths:
    """Which texts are wanted: path from the root → name; `a/b/@c` is an attribute, `a/b/@#` how many.

    Built once into steps from state to state, so that an element costs one look-up.
    """

    def __init__(self, wanted: Mapping[str, str], *, ends: Iterable[str]) -> None:
        self.steps: dict[tuple[int, str], int] = {}
        self.texts: dict[int, str] = {}
        self.attributes: dict[int, tuple[tuple[str, str], ...]] = {}
        for path, name in wanted.items():
            element, _, attribute = path.partition("/@")
            state = self._state(element)
            if attribute:
                self.attributes[state] = (*self.attributes.get(state, ()), (attribute, name))
            else:
                self.texts[state] = name
        self.ends = {self._state(path): path for path in ends}

    def _state(self, path: str) -> int:
        state = _ROOT
        for element in path.split("/"):
            state = self.steps.setdefault((state, element), len(self.steps) + _ROOT + 1)
        return state


Found = dict[str, list[str]]


class Reader:
    """Pushes pieces of a file through expat and collects what was found at each path's end."""

    def __init__(self, paths: Paths, *, on_root: Callable[[str, str], str]) -> None:
        """`on_root` is given namespace and name of the first element; a text it returns refuses."""
        self._paths, self._on_root = paths, on_root
        self._state, self._stack = _ROOT, list[int]()
        self._text: list[str] | None = None
        self._length = 0
        self._prefix = ""
        self._found: Found = {}
        self._ended: list[tuple[str, int, Found]] = []
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def read(self, chunks: Iterable[bytes]) -> Iterator[tuple[str, int, Found]]:
        """Each wanted end: its path, its line, and what was found since the last one. Raises Hostile."""
        fed = 0
        for chunk in chunks:
            fed += len(chunk)
            yield from self._push(chunk, is_last=False)
            if fed - self._parser.CurrentByteIndex > LONGEST_TOKEN:
                raise Hostile(self._line, "a tag or text is longer than a megabyte")
        yield from self._push(b"", is_last=True)

    def _push(self, chunk: bytes, *, is_last: bool) -> Iterator[tuple[str, int, Found]]:
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            why = expat.errors.messages.get(error.code, str(error))
            raise Hostile(error.lineno, f"it is not well-formed XML: {why}") from None
        except ValueError as error:
            raise Hostile(self._line, f"it is not XML we read: {error}") from None
        ended, self._ended = self._ended, []
        yield from ended

    @property
    def _line(self) -> int:
        return max(1, self._parser.CurrentLineNumber)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.upper() not in {"UTF-8", "UTF8", "US-ASCII", "ASCII"}:
            raise Hostile(self._line, f"it is written in {encoding}; ISO 20022 is UTF-8")

    def _doctype(self, *_: object) -> None:
        raise Hostile(
            self._line, "it declares a document type; statements have none, and none is read"
        )

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._stack:
            self._begin(name)
        elif len(self._stack) > DEEPEST:
            raise Hostile(self._line, f"its elements are nested more than {DEEPEST} deep")
        self._stack.append(self._state)
        local = name.removeprefix(self._prefix)
        self._state = state = self._paths.steps.get((self._state, local), _NOWHERE)
        if state in self._paths.texts:
            self._text, self._length = [], 0
        for attribute, called in self._paths.attributes.get(state, ()):
            if attribute == "#":
                self._found[called] = [str(int(self._found.get(called, ["0"])[0]) + 1)]
            else:
                self._keep(called, attributes.get(attribute, ""))

    def _begin(self, name: str) -> None:
        namespace, _, local = name.rpartition("}")
        self._prefix = f"{namespace}}}" if namespace else ""
        if reason := self._on_root(namespace, local):
            raise Hostile(self._line, reason)

    def _end(self, _name: str) -> None:
        state = self._state
        called = self._paths.texts.get(state)
        if called is not None and self._text is not None:
            self._keep(called, "".join(self._text).strip())
            self._text = None
        self._state = self._stack.pop()
        path = self._paths.ends.get(state)
        if path is not None:
            self._ended.append((path, self._line, self._found))
            self._found = {}

    def _characters(self, text: str) -> None:
        if self._text is None:
            return
        self._length += len(text)
        if self._length > LONGEST_TEXT:
            raise Hostile(self._line, f"a text is longer than {LONGEST_TEXT} characters")
        self._text.append(text)

    def _keep(self, called: str, text: str) -> None:
        kept = self._found.setdefault(called, [])
        if len(kept) < KEPT:
            kept.append(text)
