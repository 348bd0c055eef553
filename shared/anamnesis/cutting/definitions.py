"""Definitions in source code: which languages are known, and where their functions and classes begin and end."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import tree_sitter_bash
import tree_sitter_cpp
import tree_sitter_groovy
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser, Point, Tree

NAME = 100  # characters of a name that are kept
DEPTH = 12  # names of a qualified one
READ = 8192  # bytes that the parser is given at once
_DECLARATORS = 20  # pointers, references and arrays around a function's name


class _Kind(NamedTuple):
    """A kind of node that defines something: where its name is, and what it must hold to count."""

    name: str = "name"
    holding: str = ""
    """A field that must be there."""
    of: Collection[str] = ()
    """Kinds that the field may be of; empty = any."""


_NAMED = _Kind()
_WITH_BODY = _Kind(holding="body")
_FUNCTIONS = ("arrow_function", "function_expression", "class")
_JAVASCRIPT = {
    "class_declaration": _NAMED,
    "function_declaration": _NAMED,
    "generator_function_declaration": _NAMED,
    "method_definition": _NAMED,
    "field_definition": _Kind("property", "value", _FUNCTIONS),
    "variable_declarator": _Kind("name", "value", _FUNCTIONS),
    "assignment_expression": _Kind("left", "right", _FUNCTIONS),
    "pair": _Kind("key", "value", _FUNCTIONS),
}
_TYPESCRIPT = _JAVASCRIPT | {
    "abstract_class_declaration": _NAMED,
    "interface_declaration": _NAMED,
    "enum_declaration": _NAMED,
    "type_alias_declaration": _NAMED,
    "internal_module": _NAMED,
    "public_field_definition": _Kind("name", "value", _FUNCTIONS),
}
_CPP = {
    "namespace_definition": _NAMED,
    "class_specifier": _WITH_BODY,
    "struct_specifier": _WITH_BODY,
    "union_specifier": _WITH_BODY,
    "enum_specifier": _WITH_BODY,
    "function_definition": _Kind("declarator"),
}
_GROOVY = dict.fromkeys(
    (
        "class_declaration",
        "interface_declaration",
        "enum_declaration",
        "method_declaration",
        "constructor_declaration",
        "function_definition",
    ),
    _NAMED,
)
_SPOKEN: dict[str, tuple[Callable[[], object], Mapping[str, _Kind]]] = {
    "python": (tree_sitter_python.language, {"class_definition": _NAMED, "function_definition": _NAMED}),
    "javascript": (tree_sitter_javascript.language, _JAVASCRIPT),
    "typescript": (tree_sitter_typescript.language_typescript, _TYPESCRIPT),
    "tsx": (tree_sitter_typescript.language_tsx, _TYPESCRIPT),
    "cpp": (tree_sitter_cpp.language, _CPP),
    "groovy": (tree_sitter_groovy.language, _GROOVY),
    "bash": (tree_sitter_bash.language, {"function_definition": _NAMED}),
}
_ENDINGS = {
    "py": "python",
    "pyi": "python",
    "js": "javascript",
    "mjs": "javascript",
    "cjs": "javascript",
    "jsx": "javascript",
    "ts": "typescript",
    "mts": "typescript",
    "cts": "typescript",
    "tsx": "tsx",
    "ino": "cpp",
    "cpp": "cpp",
    "cc": "cpp",
    "cxx": "cpp",
    "c": "cpp",
    "h": "cpp",
    "hpp": "cpp",
    "hh": "cpp",
    "groovy": "groovy",
    "gradle": "groovy",
    "sh": "bash",
    "bash": "bash",
}


class Definition(NamedTuple):
    """A function, class or the like, by its characters in the text, and those within it."""

    start: int
    end: int
    path: tuple[str, ...]
    within: "list[Definition]"


class _Spoken(NamedTuple):
    language: Language
    kinds: Mapping[int, _Kind]


class TooHard(Exception):
    """A text that its language's parser does not get through in a time like others'."""


def language_of(ending: str) -> str | None:
    """The language of a file by the ending of its name; none where it is not known."""
    return _ENDINGS.get(ending)


@cache
def _spoken(language: str) -> _Spoken:
    load, kinds = _SPOKEN[language]
    made = Language(load())
    ids = {made.id_for_node_kind(name, True): kind for name, kind in kinds.items()}
    return _Spoken(made, {id: kind for id, kind in ids.items() if id is not None})


def definitions(text: str, language: str) -> list[Definition]:
    """Those at the top level, in order. Broken code gives those that can be made out. Raises `TooHard`."""
    spoken = _spoken(language)
    source = text.encode("utf-8", "replace")
    found = [
        (node.start_byte, node.end_byte, name)
        for node, name in _defining(source, _parsed(source, spoken.language), spoken.kinds)
    ]
    place = _characters(source, {byte for start, end, _ in found for byte in (start, end)})
    top: list[Definition] = []
    around: list[Definition] = []
    for start, end, name in found:
        while around and around[-1].end <= place[start]:
            around.pop()
        above = around[-1] if around else None
        one = Definition(place[start], place[end], (*above.path, name)[:DEPTH] if above else (name,), [])
        (above.within if above else top).append(one)
        around.append(one)
    return top


def _characters(source: bytes, places: Collection[int]) -> dict[int, int]:
    """For places in bytes, those in characters."""
    found: dict[int, int] = {}
    at = count = 0
    for place in sorted(places):
        count += len(source[at:place].decode("utf-8", "replace"))
        at = place
        found[place] = count
    return found


def _parsed(source: bytes, language: Language) -> Tree:
    """The tree of a text. What is counted is work and not time, so the same text always gives the same."""
    steps = 2000 + len(source) // 10
    reads = 2000 + len(source) // 200

    def step(*_: object) -> bool:
        nonlocal steps
        steps -= 1
        return steps < 0

    def read(at: int, _: Point | tuple[int, int]) -> bytes:
        nonlocal reads
        reads -= 1
        return source[at : at + READ] if reads >= 0 else b""

    try:
        tree = Parser(language).parse(read, encoding="utf8", progress_callback=step)
    except ValueError:
        raise TooHard from None
    if reads < 0 or tree is None:
        raise TooHard
    return tree


def _defining(source: bytes, tree: Tree, kinds: Mapping[int, _Kind]) -> Iterator[tuple[Node, str]]:
    """Every node that defines something, from the outside in, and its name."""
    cursor = tree.walk()
    while True:
        node = cursor.node
        if node is not None and (kind := kinds.get(node.kind_id)) is not None and (name := _name(source, node, kind)):
            yield node, name
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _name(source: bytes, node: Node, kind: _Kind) -> str:
    if kind.holding:
        held = node.child_by_field_name(kind.holding)
        if held is None or (kind.of and held.type not in kind.of):
            return ""
    named = node.child_by_field_name(kind.name)
    if kind.name == "declarator":
        named = _declared(named)
    if named is None:
        return ""
    # Not by the node's own text: it would read on from the parser's source, which is counted.
    told = source[named.start_byte : min(named.end_byte, named.start_byte + 4 * NAME)]
    text = told.decode("utf-8", "ignore")
    return "".join(text.replace("::", ".").split())[:NAME].strip(".")


def _declared(node: Node | None) -> Node | None:
    """The name of a C++ function, within the pointers and references that it gives back."""
    for _ in range(_DECLARATORS):
        if node is None or node.type == "function_declarator":
            return node.child_by_field_name("declarator") if node is not None else None
        node = node.child_by_field_name("declarator") or next(
            (child for child in node.named_children if child.type.endswith("declarator")), None
        )
    return None
