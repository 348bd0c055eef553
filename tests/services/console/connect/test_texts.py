"""Single entries of JSON and TOML texts: put in and taken out, and nothing else is touched."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.console.connect import jsontext, tomltext

SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
ENTRY: JsonValue = {"type": "http", "url": "http://127.0.0.1:3010/mcp"}


def test_comments_and_layout_stay() -> None:
    """What a person wrote around an entry stays as it is, also behind the comma that had to be added."""
    text = '// mine\n{\n\t"a": 1, /* b */\n\t"mcpServers": {\n\t\t"x": {"url": "u"} // the x\n\t}\n}\n'
    changed = jsontext.with_member(text, ("mcpServers", "anamnesis"), ENTRY)
    assert changed == (
        '// mine\n{\n\t"a": 1, /* b */\n\t"mcpServers": {\n\t\t"x": {"url": "u"}, // the x\n'
        '\t\t"anamnesis": {\n\t\t\t"type": "http",\n\t\t\t"url": "http://127.0.0.1:3010/mcp"\n\t\t}\n\t}\n}\n'
    )
    assert jsontext.without(changed, ("mcpServers", "anamnesis")) == text


@given(OBJECTS, st.sampled_from([None, 2, 4, "\t"]), st.booleans())
def test_any_object_gets_its_entry_and_loses_it(
    before: dict[str, JsonValue], indent: int | str | None, escaped: bool
) -> None:
    """The entry is where it is meant to be, nothing else changes, and without it the text is the same again."""
    before.pop("mcpServers", None)
    text = json.dumps(before, indent=indent, ensure_ascii=escaped)
    changed = jsontext.with_member(text, ("mcpServers", "anamnesis"), ENTRY)
    assert jsontext.value(changed) == json.loads(changed) == {**before, "mcpServers": {"anamnesis": ENTRY}}
    undone = jsontext.without(jsontext.without(changed, ("mcpServers", "anamnesis")), ("mcpServers",))
    assert undone == text


@given(st.lists(VALUES, max_size=4), st.sampled_from([None, 2]))
def test_any_list_gets_its_item_and_loses_it(before: list[JsonValue], indent: int | None) -> None:
    """As for objects; equal items that were there before are not told from ours, so there are none here."""
    text = json.dumps({"hooks": {"Stop": before}}, indent=indent)
    changed = jsontext.with_item(text, ("hooks", "Stop"), {"ours": "yes"})
    assert json.loads(changed) == {"hooks": {"Stop": [*before, {"ours": "yes"}]}}
    assert jsontext.without(changed, ("hooks", "Stop"), {"ours": "yes"}) == text


@given(st.text(alphabet='{}[]",:/*\\ \n0aetruflsn-', max_size=30))
def test_what_is_taken_for_json_is_json(text: str) -> None:
    """No text is understood that the standard's own parser does not, apart from comments and trailing commas."""
    try:
        found = jsontext.value(text)
    except jsontext.NotJson:
        return
    if "/" not in text and "," not in text:
        assert json.loads(text) == found


@pytest.mark.parametrize(
    "text", ["", "{", '{"a" 1}', '{"a": 1, "a": 2}', "{'a': 1}", "[" * 200, '{"a": 01}', "{}}", "nul"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(jsontext.NotJson):
        jsontext.with_member(text, ("a",), 1)


@pytest.mark.parametrize("text", ["[]", '{"mcpServers": []}', '{"mcpServers": "x"}'])
def test_what_is_no_object_is_not_changed(text: str) -> None:
    with pytest.raises(jsontext.NotJson):
        jsontext.with_member(text, ("mcpServers", "anamnesis"), ENTRY)


def test_trailing_commas_stay() -> None:
    text = '{\n  "a": [\n    1,\n  ],\n}'
    changed = jsontext.with_item(text, ("a",), 2)
    assert jsontext.value(changed) == {"a": [1, 2]}
    assert jsontext.without(changed, ("a",), 2).replace(",", "") == text.replace(",", "")


CODEX = """# my settings
model = "o" # the fast one

[mcp_servers.docs] # others
url = "https://docs.example/mcp"

# said about the next
[projects."/srv/shop"]
trust_level = "trusted"
"""
TABLE = {"url": "http://127.0.0.1:3010/mcp", "bearer_token_env_var": "MEMORY_KEY_CODEX"}
PATH = ("mcp_servers", "anamnesis")


@pytest.mark.parametrize("text", ["", CODEX, CODEX.rstrip(), "a = 1\n", '[mcp_servers]\n"x" = {url = "u"}\n'])
def test_a_table_comes_and_goes(text: str) -> None:
    """Comments stay, the rest means the same, and without the table the text is the one from before."""
    changed = tomltext.with_table(text, PATH, TABLE)
    assert changed.startswith(text)
    assert tomltext.table(changed, PATH) == TABLE
    assert tomltext.without_table(changed, PATH).rstrip("\n") == text.rstrip("\n")


def test_what_stands_behind_a_table_stays() -> None:
    """Others have written after it: their tables and comments stay, what was put below it goes with it."""
    changed = tomltext.with_table(CODEX, PATH, TABLE) + (
        '\n[mcp_servers."anamnesis".tools.search]\nmode = "ask"\n\n# later\n[projects."/srv/new"]\ntrust_level = "no"\n'
    )
    undone = tomltext.without_table(changed, PATH)
    assert tomllib.loads(undone) == tomllib.loads(CODEX + '[projects."/srv/new"]\ntrust_level = "no"\n')
    assert "# later\n" in undone
    assert undone.startswith(CODEX.rstrip())


@pytest.mark.parametrize("text", ["a = ", "[x", "mcp_servers = {x = {url = 'u'}}", "mcp_servers = 1", "a = 1\na = 2"])
def test_toml_that_cannot_be_changed_is_refused(text: str) -> None:
    with pytest.raises(tomltext.NotToml):
        tomltext.with_table(text, PATH, TABLE)


def test_brackets_within_strings_are_no_tables() -> None:
    """A line in a longer string looks like a header: the result is checked, so nothing wrong is ever written."""
    text = 'a = """\n[mcp_servers.anamnesis]\n"""\n'
    changed = tomltext.with_table(text, PATH, TABLE)
    with pytest.raises(tomltext.NotToml):
        tomltext.without_table(changed, PATH)
