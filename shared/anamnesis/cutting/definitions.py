"""Definitions in source code: which languages are known, and where their functions and classes begin and end."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import tree_sitter_bash
import tree_sitter_cpp
import tree_sitter_groovy
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_typescript
from tree_sitter import Language, Parser, Query, QueryCursor

NAME = 100  # characters of a name that are kept
DEPTH = 12  # names of a qualified one

_PYTHON = "[(class_definition name: (_) @name) (function_definition name: (_) @name)] @def"
_JAVASCRIPT = """
[
  (class_declaration name: (_) @name)
  (function_declaration name: (_) @name)
  (generator_function_declaration name: (_) @name)
  (method_definition name: (_) @name)
  (variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression) (class)])
  (assignment_expression left: (member_expression) @name right: [(arrow_function) (function_expression) (class)])
  (pair key: (property_identifier) @name value: [(arrow_function) (function_expression)])
] @def
"""
_TYPESCRIPT = (
    _JAVASCRIPT
    + """
[
  (abstract_class_declaration name: (_) @name)
  (interface_declaration name: (_) @name)
  (enum_declaration name: (_) @name)
  (type_alias_declaration name: (_) @name)
  (internal_module name: (_) @name)
  (public_field_definition name: (_) @name value: [(arrow_function) (function_expression)])
] @def
"""
)
_CPP = """
[
  (namespace_definition name: (_) @name)
  (class_specifier name: (_) @name body: (_))
  (struct_specifier name: (_) @name body: (_))
  (union_specifier name: (_) @name body: (_))
  (enum_specifier name: (_) @name body: (_))
  (function_definition declarator: (function_declarator declarator: (_) @name))
  (function_definition declarator: (_ declarator: (function_declarator declarator: (_) @name)))
  (function_definition declarator: (_ (function_declarator declarator: (_) @name)))
] @def
"""
_GROOVY = """
[
  (class_declaration name: (_) @name)
  (interface_declaration name: (_) @name)
  (enum_declaration name: (_) @name)
  (method_declaration name: (_) @name)
  (constructor_declaration name: (_) @name)
  (function_definition name: (_) @name)
] @def
"""
_BASH = "(function_definition name: (_) @name) @def"

_SPOKEN: dict[str, tuple[Callable[[], object], str]] = {
    "python": (tree_sitter_python.language, _PYTHON),
    "javascript": (tree_sitter_javascript.language, _JAVASCRIPT),
    "typescript": (tree_sitter_typescript.language_typescript, _TYPESCRIPT),
    "tsx": (tree_sitter_typescript.language_tsx, _TYPESCRIPT),
    "cpp": (tree_sitter_cpp.language, _CPP),
    "groovy": (tree_sitter_groovy.language, _GROOVY),
    "bash": (tree_sitter_bash.language, _BASH),
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
    """A function, class or the like, by its bytes in the text, and those within it."""

    start: int
    end: int
    path: tuple[str, ...]
    within: "list[Definition]"


class _Spoken(NamedTuple):
    grammar: object
    language: Language
    query: Query


def language_of(ending: str) -> str | None:
    """The language of a file by the ending of its name; none where it is not known."""
    return _ENDINGS.get(ending)


def grammar(language: str) -> object:
    """What the splitter takes for a language."""
    return _spoken(language).grammar


@cache
def _spoken(language: str) -> _Spoken:
    load, query = _SPOKEN[language]
    made = Language(load())
    return _Spoken(load(), made, Query(made, query))


def definitions(source: bytes, language: str) -> list[Definition]:
    """Those at the top level, in order. Broken code gives those that can be made out."""
    spoken = _spoken(language)
    tree = Parser(spoken.language).parse(source)
    seen: list[tuple[int, int, int, str]] = []
    for _, captures in QueryCursor(spoken.query).matches(tree.root_node):
        whole, name = captures["def"][0], captures["name"][0]
        text = source[name.start_byte : min(name.end_byte, name.start_byte + 4 * NAME)].decode("utf-8", "ignore")
        seen.append((whole.start_byte, -whole.end_byte, name.start_byte, _name(text)))
    seen.sort()
    top: list[Definition] = []
    open_ones: list[Definition] = []
    last = -1
    for start, end, named, name in seen:
        if named == last or not name:  # the same one by another pattern
            continue
        last = named
        while open_ones and open_ones[-1].end <= start:
            open_ones.pop()
        above = open_ones[-1] if open_ones else None
        path = (*above.path, name)[:DEPTH] if above else (name,)
        one = Definition(start, -end, path, [])
        (above.within if above else top).append(one)
        open_ones.append(one)
    return top


def _name(text: str) -> str:
    return "".join(text.replace("::", ".").split())[:NAME].strip(".")


def around(top: Sequence[Definition], start: int, end: int) -> tuple[str, ...]:
    """The path of the definition that most of a part belongs to; of several at the top level, of the largest share."""
    path: tuple[str, ...] = ()
    level = top
    while True:
        shares = _shares(level, start, end)
        if not shares:
            return path
        share, first = max(shares, key=lambda one: one[0])
        together = sum(one for one, _ in shares)
        if 2 * share <= end - start and (path or 2 * together <= end - start):
            return path
        path, level = first.path, first.within


def _shares(level: Sequence[Definition], start: int, end: int) -> list[tuple[int, Definition]]:
    at = max(0, bisect_right(level, start, key=lambda one: one.start) - 1)
    found: list[tuple[int, Definition]] = []
    while at < len(level) and level[at].start < end:
        share = min(end, level[at].end) - max(start, level[at].start)
        if share > 0:
            found.append((share, level[at]))
        at += 1
    return found
