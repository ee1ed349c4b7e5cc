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


class Hostile(Exception):
    """The file does what no statement does; `number` is the line, from 1."""

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(reason)


class Node:
    """One element on the way to what is wanted: what lies below, and what to do with it."""

    __slots__ = ("attributes", "below", "counted", "ends", "text")

    def __init__(self) -> None:
        self.below: dict[str, Node] = {}
        self.text = self.counted = self.ends = ""
        self.attributes: list[tuple[str, str]] = []

    def find(self, path: str) -> "Node":
        """The element at this path from here, made if it is not there."""
        here = self
        for element in path.split("/"):
            here = here.below.setdefault(element, Node())
        return here

    def within(self, prefix: str) -> "Node":
        """The same elements by the names they have in a namespace."""
        named = Node()
        named.text, named.counted, named.ends = self.text, self.counted, self.ends
        named.attributes = self.attributes
        named.below = {prefix + name: node.within(prefix) for name, node in self.below.items()}
        return named


def paths(wanted: Mapping[str, str], *, ends: Iterable[str]) -> Node:
    """Which texts are wanted: path from the root → name; `a/b/@c` is an attribute, `a/b/@#` how many.

    At the end of each path in `ends` what was found so far is handed over.
    """
    root = Node()
    for path, name in wanted.items():
        element, _, attribute = path.partition("/@")
        node = root.find(element)
        if attribute == "#":
            node.counted = name
        elif attribute:
            node.attributes.append((attribute, name))
        else:
            node.text = name
    for path in ends:
        root.find(path).ends = path
    return root


Found = dict[str, list[str]]
Ended = tuple[str, int, Found]


def read_paths(
    chunks: Iterable[bytes], root: Node, *, on_root: Callable[[str, str], str]
) -> Iterator[Ended]:
    """Each wanted end: its path, its line, and what was found since the last one. Raises Hostile.

    `on_root` is given namespace and name of the first element; a text it returns refuses the file.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    ended: list[Ended] = []
    _follow(parser, root, ended, on_root)
    _forbid(parser)
    fed = 0
    for chunk in chunks:
        fed += len(chunk)
        _push(parser, chunk, is_last=False)
        yield from ended
        ended.clear()
        if fed - parser.CurrentByteIndex > LONGEST_TOKEN:
            raise Hostile(_line(parser), "a tag or text is longer than a megabyte")
    _push(parser, b"", is_last=True)
    yield from ended


def _push(parser: expat.XMLParserType, chunk: bytes, *, is_last: bool) -> None:
    try:
        parser.Parse(chunk, is_last)
    except expat.ExpatError as error:
        why = expat.errors.messages.get(error.code, str(error))
        raise Hostile(error.lineno, f"it is not well-formed XML: {why}") from None
    except ValueError as error:
        raise Hostile(_line(parser), f"it is not XML we read: {error}") from None


def _line(parser: expat.XMLParserType) -> int:
    return max(1, parser.CurrentLineNumber)


def _forbid(parser: expat.XMLParserType) -> None:
    """Nothing that a statement has no need of."""

    def declaration(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.upper() not in {"UTF-8", "UTF8", "US-ASCII", "ASCII"}:
            raise Hostile(_line(parser), f"it is written in {encoding}; ISO 20022 is UTF-8")

    def doctype(*_: object) -> None:
        raise Hostile(
            _line(parser), "it declares a document type; statements have none, and none is read"
        )

    parser.XmlDeclHandler = declaration
    parser.StartDoctypeDeclHandler = doctype


def _follow(  # noqa: C901
    parser: expat.XMLParserType,
    root: Node,
    ended: list[Ended],
    on_root: Callable[[str, str], str],
) -> None:
    """Walk along with the parser from node to node; what is on no wanted path is only counted.

    Longer than others, and closures instead of methods: they are called thirty times an entry, and
    half of an import is spent here.
    """
    above: list[Node] = []
    here, skipped = root, 0
    text, is_kept = "", False
    found: Found = {}

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal here, skipped, text, is_kept
        if here is root:
            namespace, _, local = name.rpartition("}")
            if reason := on_root(namespace, local):
                raise Hostile(_line(parser), reason)
            here = root.within(f"{namespace}}}" if namespace else "")
        node = None if skipped else here.below.get(name)
        if node is None:
            skipped += 1
            if skipped > DEEPEST:
                raise Hostile(_line(parser), f"its elements are nested more than {DEEPEST} deep")
            return
        above.append(here)
        here = node
        if node.text:
            text, is_kept = "", True
        for attribute, called in node.attributes:
            keep(called, attributes.get(attribute, ""))
        if node.counted:
            found[node.counted] = [str(int(found.get(node.counted, ["0"])[0]) + 1)]

    def end(_name: str) -> None:
        nonlocal here, skipped, is_kept, found
        if skipped:
            skipped -= 1
            return
        if is_kept and here.text:
            keep(here.text, text.strip())
            is_kept = False
        if here.ends:
            ended.append((here.ends, parser.CurrentLineNumber, found))
            found = {}
        here = above.pop()

    def characters(more: str) -> None:
        nonlocal text
        if is_kept and not skipped:
            text += more
            if len(text) > LONGEST_TEXT:
                raise Hostile(_line(parser), f"a text is longer than {LONGEST_TEXT} characters")

    def keep(called: str, value: str) -> None:
        kept = found.get(called)
        if kept is None:
            found[called] = [value]
        elif len(kept) < KEPT:
            kept.append(value)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
