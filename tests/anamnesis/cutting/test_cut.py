"""Cutting: where each kind of text is cut, what a piece knows of its place, and that nothing is lost."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.cutting import Piece, cut

NAMES = (
    "a.md",
    "a.py",
    "a.js",
    "a.ts",
    "a.tsx",
    "a.cpp",
    "a.ino",
    "a.h",
    "a.groovy",
    "a.sh",
    "a.yml",
    "a.txt",
    "Makefile",
)

PYTHON = '''"""A house."""

import os


class Door:
    """A door."""

    def __init__(self) -> None:
        self.width = 1
        self.height = 2
        self.note = "a door that is new is shut, and stays so until somebody opens it with a key"

    def write(self, text: str) -> None:
        """Write on it."""
        for letter in text:
            print(letter, end="")
            print("a letter was written on the door, and it will stay there until the rain comes")

    @property
    def open(self) -> bool:
        return self.width > self.height and "the wind is strong enough today to move it by itself" != ""


def house(doors: list[Door]) -> int:
    """How many doors it has."""
    total = 0
    for door in doors:
        total += 1 if door.open else 2
        print("a house is counted by its doors, those that are open and those that are not")
    return total
'''

CPP = """#include <Arduino.h>

namespace garden {
class Pump {
 public:
  void start(int seconds) {
    digitalWrite(7, HIGH); // the pump stands in the shed and is heard by all
    delay(seconds * 1000);
    digitalWrite(7, LOW);
  }
};
}

int *Sensor::read(int pin) {
  static int values[2];
  values[0] = analogRead(pin); // dry earth reads high, and wet earth reads low
  values[1] = analogRead(pin + 1);
  return values;
}

void setup() {
  pinMode(7, OUTPUT); // the pump is behind this one, over a relay that clicks
  Serial.begin(9600);
}

void loop() {
  garden::Pump pump;
  if (Sensor().read(1)[0] > 500) { pump.start(5); } // not more, or it runs over
}
"""

JAVASCRIPT = """import { a } from "b";

export class Door {
  write(text) {
    console.log("a door that is written on stays written on until somebody wipes it", text);
    return text;
  }
  static shut = () => { console.log("it fell shut, and nobody had a key to it that night"); };
}

export const knock = async (times) => {
  for (let i = 0; i < times; i++) console.log("knock, and wait for somebody to come and see");
};

module.exports.ring = function () { console.log("it rings in the hall and in the kitchen, twice"); };
"""

TYPESCRIPT = """interface Key { teeth: number; name: string; made: Date; of: "iron" | "brass" | "steel" | "nothing" }

namespace House {
  export abstract class Door<T> {
    private lock = (key: Key): boolean => { return key.teeth > 3 && key.name !== "the one that was lost"; };
    async write(text: string): Promise<void> { console.log("written on a door, in a hand of long ago", text); }
  }
}
"""

GROOVY = """definition(name: "Lights", namespace: "house", author: "somebody", description: "lights that follow people")

preferences { page(name: "main", title: "Which lights follow whom through the house, and until when") }

def installed() {
  log.debug "installed, and from now on somebody is followed by light wherever they go"
  subscribe(motion, "motion.active", follow)
}

class Lamp {
  void turnOn(int level) { println "the lamp is on, at a level which somebody chose long ago: ${level}" }
}
"""

BASH = """#!/bin/sh
set -eu

water() {
  echo "the garden is watered for so many minutes, if it did not rain last night" "$1"
}

function harvest {
  for bed in beans peas; do echo "what is ripe in this bed is taken and the rest is left: $bed"; done
}
"""

MARKDOWN = """---
title: not a heading
---
Before all headings there is a sentence.

# House

## Doors

A door is a thing that opens. It has a handle on each side, or a knob, or nothing.

```sh
# not a heading
```

### Locks ###

A lock holds a door. Without its key it is for nobody.

Windows
-------

Windows are made of glass, and of what holds it. One looks out of them.

#hashtag is no heading, and neither is what follows a list

- item
---

Garden
======

It is around the house, and has a gate to the street that is never locked.
"""

YAML = """# the whole house
version: 3
services:
  # the door
  door:
    image: door:1
    note: "a door is a service that opens and shuts, and is asked for by name"
  window:
    image: window:2
    note: "a window is a service that lets light in, and is asked for by nobody"
"volumes":
  cellar: {}
"""


def squeezed(text: str) -> str:
    return "".join(text.split())


def sound(text: str, pieces: list[Piece], most: int = 1800) -> None:
    """Nothing is lost, nothing said twice, every piece stands where it says and is no longer than it may be."""
    assert squeezed("".join(piece.text for piece in pieces)) == squeezed(text)
    lines = text.split("\n")
    before = 1
    for piece in pieces:
        assert piece.text.strip()
        assert len(piece.text) <= most
        assert before <= piece.line <= piece.last_line <= len(lines)
        said = piece.text.split("\n")
        assert len(said) == piece.last_line - piece.line + 1
        assert all(one in lines[piece.line - 1 + place] for place, one in enumerate(said))
        before = piece.last_line


def sections(text: str, name: str, least: int = 60, most: int = 200) -> list[str]:
    pieces = cut(text, name, least=least, most=most)
    sound(text, pieces, most)
    return list(dict.fromkeys(piece.section for piece in pieces))


def test_python_names() -> None:
    """A piece of a program carries the qualified name of the function or class that it is or lies in."""
    assert sections(PYTHON, "house.py", 100) == ["", "Door.__init__", "Door.write", "Door.open", "house"]


def test_whole_function() -> None:
    """A function that fits into a piece is not divided, and begins with its indentation."""
    writes = [piece for piece in cut(PYTHON, "house.py", least=100, most=300) if "def write" in piece.text]
    assert len(writes) == 1
    assert writes[0].text.startswith("    def write")
    assert "rain comes" in writes[0].text
    assert PYTHON.split("\n")[writes[0].line - 1] == "    def write(self, text: str) -> None:"


@pytest.mark.parametrize("name", ["pump.ino", "pump.cpp", "pump.h"])
def test_cpp_names(name: str) -> None:
    """Sketches and headers are cut as C++: namespaces, classes, members defined outside, behind pointers."""
    found = sections(CPP, name)
    assert {"garden.Pump", "Sensor.read", "setup", "loop"} <= set(found)


def test_javascript_names() -> None:
    """Functions are found under whatever name they are kept: a class's, a constant's, an export's."""
    found = sections(JAVASCRIPT, "door.js")
    assert {"Door.write", "Door.shut", "knock", "module.exports.ring"} <= set(found)


def test_typescript_names() -> None:
    """Interfaces and namespaces are definitions as well."""
    assert {"Key", "House.Door.write"} <= set(sections(TYPESCRIPT, "door.ts"))


def test_groovy_names() -> None:
    """Hubitat's and Gradle's language: functions and classes among calls."""
    assert {"installed", "Lamp"} <= set(sections(GROOVY, "lights.groovy"))


def test_bash_names() -> None:
    """Both ways to write a shell function."""
    assert {"water", "harvest"} <= set(sections(BASH, "garden.sh"))


def test_markdown_headings() -> None:
    """A section's path names the headings above it, underlined ones too; code and settings hold none."""
    assert sections(MARKDOWN, "house.md", least=1) == [
        "",
        "House > Doors",
        "House > Doors > Locks",
        "House > Windows",
        "Garden",
    ]


def test_markdown_joined() -> None:
    """Short sections below one heading stand together, under what they share."""
    text = "# A\n\n## B\n\nsome words\n\n## C\n\nmore words\n\n# D\n\nothers\n"
    pieces = cut(text, "a.md")
    assert [(piece.section, piece.line, piece.last_line) for piece in pieces] == [("A", 1, 9), ("D", 11, 13)]


def test_yaml_keys() -> None:
    """YAML is cut at its keys, comments above included, and long entries at the keys within."""
    assert sections(YAML, "house.yml", least=20, most=150) == [
        "version",
        "services.door",
        "services.window",
        "volumes",
    ]


def test_paragraphs() -> None:
    """Other texts are cut between paragraphs once a part is long enough."""
    text = "\n\n".join(f"Paragraph {n} says something. " + "It goes on. " * 20 for n in range(12))
    pieces = cut(text, "notes.txt")
    sound(text, pieces)
    assert all(piece.text.startswith("Paragraph") for piece in pieces)
    assert all(600 <= len(piece.text) <= 1800 for piece in pieces[:-1])


def test_lines_survive_an_edit() -> None:
    """A change at the beginning of a file leaves most of the pieces behind it as they are."""
    text = PYTHON * 20
    before = {piece.text for piece in cut(text, "a.py")}
    after = [piece.text for piece in cut("import sys\n" + text, "a.py")]
    assert sum(one in before for one in after) > len(after) * 0.8


def test_emoji_whole() -> None:
    """What is seen as one character is not divided, in a line without any place to cut."""
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    pieces = cut(family * 2000, "a.txt")
    assert all(len(piece.text) % len(family) == 0 for piece in pieces)


ODD = {
    "one line without spaces": "x" * 64_000,
    "blank": " \n" * 32_000,
    "tabs": "\t" * 30_000 + "x",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 12_000,
    "accents": "e" + "\u0301" * 63_000,
    "open brackets": "(" * 64_000,
    "open blocks": "{if(a)" * 10_000,
    "minified": "function a(b,c){var d=b+c;return d*2}var e=[1,2,3];if(e){x=>y;};" * 1000,
    "functions": "function a(){}\n" * 4500,
    "quotes": "\"'`" * 20_000,
    "windows": "a\r\n\r\n" * 12_000,
    "old mac": "a\r" * 32_000,
    "headings": "# a\n" * 16_000,
    "rules": "a\n---\n" * 10_000,
    "keys": "a:\n" * 20_000,
    "deep keys": "".join(" " * n + "a:\n" for n in range(300)),
    "comments": "# x\n" * 16_000 + "a: 1\n",
    "nul": "a\x00b\n" * 10_000,
    "surrogates": "a\ud800b = 1\n" * 6_000,
    "separators": "a\u2028b\x0bc\x0cd\x85" * 8_000,
    "nested": "".join("  " * n + f"def f{n}():\n" for n in range(240)),
    "noise": "".join(random.Random(4).choices("{}();<>=ab\"'\\\n #$-:*`~", k=64_000)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_texts(odd: str, name: str) -> None:
    """Whatever a file holds, all of it is in the pieces, soon."""
    started = time.perf_counter()
    pieces = cut(ODD[odd], name)
    assert time.perf_counter() - started < 8
    sound(ODD[odd], pieces)


_ANY = st.text(st.characters(exclude_categories=()), max_size=400)
_WORDS = [
    "def",
    "f(",
    "):",
    "class",
    "A",
    "{",
    "}",
    "(",
    ")",
    "#",
    "a:",
    "-",
    "é",
    "😀",
    '"',
    "'",
    "`",
    "//",
    "/*",
    "*/",
    "<",
    ">",
    "=>",
    "function",
    "g",
    "\\",
    ";",
    "namespace",
    "n",
    "template<class",
    "T>",
    "::",
    "$(",
    "${",
    "@x",
    "async",
    "=",
    "if",
    "else",
]
_LINES = [
    "\n",
    "\r\n",
    "\t",
    "    ",
    " ",
    "## y\n",
    "```\n",
    "---\n",
    "===\n",
    "<<EOF\n",
    "EOF\n",
    "x" * 300,
    "\u200d",
    "\ud800",
]
_CODE = st.lists(st.sampled_from([*_WORDS, *_LINES]), max_size=120).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(_ANY, _CODE), least=st.integers(1, 60), more=st.integers(0, 100))
def test_nothing_lost(name: str, text: str, least: int, more: int) -> None:
    """For any text, as any kind: all that is not blank, in order, on the lines that the pieces name."""
    sound(text, cut(text, name, least=least, most=least + more), least + more)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.md", "a.py", "a.js", "a.cpp", "a.sh", "a.yml", "a.txt"])
def test_linear(name: str) -> None:
    """Eight times the text takes about eight times as long, not sixty-four."""
    text = ODD["minified"][:6400] + PYTHON * 5 + MARKDOWN * 10 + "x" * 4000

    def seconds(times: int) -> float:
        best = 1e9
        for _ in range(2):
            started = time.process_time()
            cut(text * times, name)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(16) < 24 * max(seconds(2), 0.002)
