"""`deploy.sh`: settings from `.env`, which torch is taken, when an installation begins again, where a verb goes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.environment import SHELL

ROOT = Path(__file__).parents[1]
LISTED = [name for variables in SHELL.values() for name in variables]


class Checkout:
    """A directory with deploy.sh in it, and a Python and a Docker that only write down what they are asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._asked = root / "asked"
        for name in ("deploy.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, root / name)
        (root / "deploy").mkdir()
        for path in (ROOT / "deploy").glob("*.sh"):
            shutil.copy(path, root / "deploy" / path.name)
        self.python = root / ".venv" / "bin" / "python"
        self.answer("exit 0")
        self._docker = root / "tools" / "docker"
        self.engine("exit 1")

    def answer(self, body: str) -> None:
        """What the interpreter does after writing down its arguments, in shell."""
        self._program(self.python, body)

    def engine(self, body: str) -> None:
        """The same for Docker."""
        self._program(self._docker, body)

    def _program(self, path: Path, body: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/usr/bin/env bash\nprintf "{path.name} %s\\n" "$*" >>"{self._asked}"\n{body}\n')
        path.chmod(0o755)

    def __call__(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run some shell after deploy.sh was sourced."""
        return self._run("bash", "-c", f"source ./deploy.sh; {script}", **environment)

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call deploy.sh as people do."""
        return self._run("./deploy.sh", *arguments)

    def _run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in LISTED and not name.startswith(("ANAMNESIS_", "COMPOSE_"))
        }
        path = f"{self._docker.parent}{os.pathsep}{kept['PATH']}"
        return subprocess.run(
            command,
            cwd=self.root,
            env={**kept, "PATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def asked(self) -> list[str]:
        """What the two were asked, in order."""
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def installs(self) -> list[str]:
        """What pip was asked to install, in order."""
        return [line for line in self.asked() if line.startswith("python -P -m pip install")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_environment_wins_over_the_env_file(checkout: Checkout) -> None:
    """`.env` fills what the environment leaves open, its values are never run, and other names are left alone."""
    (checkout.root / ".env").write_text(
        "# a comment\nANAMNESIS_GATEWAY_PORT=4010\nANAMNESIS_DATA_DIR='/srv/with space'\n"
        'ANAMNESIS_LOG_LEVEL="$(touch ran)"\nPATH=/nowhere\nANAMNESIS_HOST=0.0.0.0'
    )
    shown = checkout(
        'printf "%s|" "$ANAMNESIS_GATEWAY_PORT" "$ANAMNESIS_DATA_DIR" "$ANAMNESIS_LOG_LEVEL" '
        '"$ANAMNESIS_HOST"; command -v bash >/dev/null',
        ANAMNESIS_GATEWAY_PORT="5010",
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "5010|/srv/with space|$(touch ran)|0.0.0.0|"
    assert not (checkout.root / "ran").exists()


@pytest.mark.parametrize("name", LISTED)
def test_every_variable_of_the_shell_may_stand_in_the_env_file(checkout: Checkout, name: str) -> None:
    """What `.env.example` lists for the shell is read from `.env`, written as Compose takes it, too."""
    (checkout.root / ".env").write_text(f"  export {name} = /some/thing  # a note\n")
    shown = checkout(f'printf "%s" "${name}"')
    assert (shown.stdout, shown.stderr) == ("/some/thing", "")


def test_the_env_file_says_where_python_is(checkout: Checkout) -> None:
    """ANAMNESIS_VENV in `.env` moves the environment, ANAMNESIS_PYTHON names what it is made with."""
    (checkout.root / ".env").write_text("ANAMNESIS_VENV=~/there\nANAMNESIS_PYTHON=no-such-python\n")
    assert checkout('printf "%s" "$PYTHON"', HOME="/home/me").stdout == "/home/me/there/bin/python"
    assert "found none as no-such-python" in checkout("find_python").stderr


def test_the_env_file_chooses_torch(checkout: Checkout) -> None:
    """TORCH_INDEX_URL in `.env` is the index that torch comes from, and another one makes the set-up begin again."""
    (checkout.root / ".env").write_text("TORCH_INDEX_URL=https://example.org/cu\n")
    checkout("set_up requirements.lock")
    assert "--index-url https://example.org/cu torch==" in checkout.installs()[0]
    before = len(checkout.installs())
    (checkout.root / ".env").write_text("TORCH_INDEX_URL=https://example.org/rocm\n")
    checkout("set_up requirements.lock")
    assert "--index-url https://example.org/rocm torch==" in checkout.installs()[before]


def test_the_env_file_says_how_long_to_wait(checkout: Checkout) -> None:
    """ANAMNESIS_WAIT in `.env` is the time that Compose gives everything to become ready."""
    (checkout.root / ".env").write_text("ANAMNESIS_WAIT=17\n")
    checkout("compose_run")
    assert any("--wait-timeout 17" in asked for asked in checkout.asked())


def test_settings_reach_the_services_and_not_compose(checkout: Checkout) -> None:
    """The services get what `.env` says; Compose reads it for itself, in its newest form."""
    (checkout.root / ".env").write_text("ANAMNESIS_DATA_DIR=/srv/data\n")
    checkout.answer('echo "python has ${ANAMNESIS_DATA_DIR-nothing}"')
    checkout.engine('echo "docker has ${ANAMNESIS_DATA_DIR-nothing}"')
    assert checkout("ask_local status").stdout == "python has /srv/data\n"
    assert checkout("compose ps").stdout == "docker has nothing\n"


def test_the_index_that_was_asked_for_brings_torch(checkout: Checkout) -> None:
    """With TORCH_INDEX_URL torch comes from there, with what that build needs."""
    checkout("install_torch", TORCH_INDEX_URL="https://example.org/cu")
    [install] = checkout.installs()
    assert "--index-url https://example.org/cu torch==" in install
    assert "--no-deps" not in install


def test_torch_that_is_there_is_left_alone(checkout: Checkout) -> None:
    """Nothing is installed where the pinned version is."""
    checkout("install_torch")
    assert checkout.installs() == []


@pytest.mark.parametrize(
    ("at_hand", "reachable", "expected"),
    [
        (True, True, ["--no-index --no-deps torch=="]),
        (False, True, ["--no-index", "--no-deps --index-url https://download.pytorch.org/whl/cpu torch=="]),
        (False, False, ["--no-index", "--progress-bar off torch=="]),
    ],
)
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="other systems take torch from the default index")
def test_the_cpu_build_is_preferred(checkout: Checkout, at_hand: bool, reachable: bool, expected: list[str]) -> None:
    """A wheel at hand comes first, then the CPU index, and only when that is away the default index."""
    checkout.answer(
        f'case "$*" in *metadata*) exit 1 ;; *--no-index*) exit {int(not at_hand)} ;; '
        f"*urlopen*) exit {int(not reachable)} ;; esac"
    )
    done = checkout("install_torch")
    assert done.returncode == 0, done.stderr
    assert len(checkout.installs()) == len(expected)
    assert all(part in install for part, install in zip(expected, checkout.installs(), strict=True))


def test_a_second_setting_up_does_nothing(checkout: Checkout) -> None:
    """What was set up is left alone until the project, its lock file, or the wanted torch changes."""
    assert checkout("set_up requirements.lock").returncode == 0
    first = len(checkout.installs())
    assert first == 2
    assert "--no-deps --require-hashes --requirement" in checkout.installs()[0]
    checkout("set_up requirements.lock")
    assert len(checkout.installs()) == first
    with (checkout.root / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    checkout("set_up requirements.lock")
    assert len(checkout.installs()) == 2 * first


def test_an_installation_that_failed_is_tried_again(checkout: Checkout) -> None:
    """A failure is shown with the end of its log, ends with an error, and counts for nothing."""
    checkout.answer('case "$*" in *require-hashes*) echo "no such package"; exit 1 ;; esac')
    failed = checkout("set_up requirements.lock && echo went on")
    assert failed.returncode != 0
    assert "no such package" in failed.stderr
    assert "went on" not in failed.stdout
    checkout.answer("exit 0")
    assert checkout("set_up requirements.lock").returncode == 0


def test_what_the_tests_need_will_do_for_running(checkout: Checkout) -> None:
    """After setting up for the tests, running needs no installation."""
    checkout("set_up requirements-dev.lock")
    before = len(checkout.installs())
    checkout("set_up_to_run")
    assert len(checkout.installs()) == before


def test_what_was_not_run_is_said(checkout: Checkout) -> None:
    """The summary of `test` counts what was skipped and names the reason where nothing was run; that is no failure."""
    for tool in ("ruff", "mypy", "lint-imports", "shellcheck"):
        (checkout.python.parent / tool).symlink_to("/bin/true")
    (checkout.root / "tests").mkdir()
    (checkout.root / "tests" / "test_some.py").write_text(
        "import pytest\n"
        "def test_done(): pass\n"
        "def test_skipped(): pytest.skip('no such thing here')\n"
        "@pytest.mark.slow\n"
        "def test_slow(): pass\n"
        "@pytest.mark.compose\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_stack(number): pytest.skip('there is no\\nengine')\n"
    )
    checkout.answer(
        f'case "$*" in *" pip "* | *mongo_peer* | *tests.browser*) exit 0 ;; esac; exec "{sys.executable}" "$@"'
    )
    done = checkout("run_tests", PYTHONPATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = [re.sub(r"\d+ s\b", "- s", line) for line in done.stdout.splitlines()[-3:]]
    assert summary == [
        "ok      tests (- s, 1 skipped)",
        "ok      slow tests (- s)",
        "SKIPPED compose tests: there is no engine",
    ]


def test_a_test_that_fails_is_a_failure(checkout: Checkout) -> None:
    """One failure among what is skipped fails the whole and is said so."""
    (checkout.root / "tests").mkdir()
    (checkout.root / "tests" / "test_some.py").write_text(
        "import pytest\ndef test_failed(): assert False\ndef test_skipped(): pytest.skip('no such thing here')\n"
    )
    checkout.answer(
        f'case "$*" in *" pip "* | *mongo_peer* | *tests.browser*) exit 0 ;; esac; exec "{sys.executable}" "$@"'
    )
    done = checkout("run_tests", PYTHONPATH="")
    assert done.returncode == 1
    assert "\nFAILED  tests (" in done.stdout
    assert "SKIPPED" not in done.stdout.rpartition("== compose tests")[2]


def test_a_missing_python_is_said(checkout: Checkout) -> None:
    """Without a Python that is new enough it says which were tried and how to name one."""
    done = checkout("find_python", ANAMNESIS_PYTHON="no-such-python")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "ANAMNESIS_PYTHON=" in done.stderr


def test_an_unknown_verb_is_refused() -> None:
    """A verb that does not exist points to the help."""
    done = subprocess.run([str(ROOT / "deploy.sh"), "frob"], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 1
    assert "./deploy.sh help" in done.stderr


RUNNING = 'case "$*" in "ps "*) echo 1a2b3c ;; esac'  # a Docker in which our containers are


def local_says(status: int, rest: int = 0) -> str:
    """An interpreter whose `services.local status` ends with one exit status, and every other verb with another."""
    return f'echo "local: $*"; case "$*" in *services.local\\ status) exit {status} ;; esac; exit {rest}'


@pytest.fixture
def both(checkout: Checkout) -> Checkout:
    """A checkout that is set up, with containers of the project in the engine."""
    (checkout.root / ".venv" / "fingerprint.requirements.lock").touch()
    (checkout.root / ".env").touch()
    checkout.engine(RUNNING)
    return checkout


@pytest.mark.parametrize(("status", "local"), [(0, True), (1, True), (2, False), (3, False)])
@pytest.mark.parametrize(
    ("verb", "locally", "composed"),
    [("status", "status", "ps --all"), ("logs", "logs", "logs"), ("down", "down", "down"), ("stop", "down", "stop")],
)
def test_a_verb_goes_where_something_runs(
    both: Checkout, status: int, local: bool, verb: str, locally: str, composed: str
) -> None:
    """Services without containers come first, ready or not; where none run, or settings are wrong, Compose does."""
    both.answer(local_says(status))
    done = both.verb(verb)
    last = both.asked()[-1]
    assert done.returncode == (status if local and verb == "status" else 0), done.stderr
    assert last.startswith(f"python -P -m services.local {locally}" if local else "docker compose ")
    assert local or f"docker-compose.yml {composed}" in last


@pytest.mark.parametrize("verb", ["status", "logs", "down", "stop"])
def test_without_containers_the_local_verb_is_asked(both: Checkout, verb: str) -> None:
    """Where Compose has nothing, the local services answer, and their exit status is that of the verb."""
    both.engine("exit 0")
    both.answer(local_says(2, rest=2))
    done = both.verb(verb)
    assert done.returncode == 2
    assert done.stdout.startswith("local: -P -m services.local ")


def test_what_a_verb_is_given_goes_with_it(both: Checkout) -> None:
    """`logs memory -f` is passed on whole, and what it ends with comes back."""
    both.answer(local_says(0, rest=1))
    done = both.verb("logs", "memory", "-f")
    assert (done.returncode, done.stdout) == (1, "local: -P -m services.local logs memory -f\n")


def test_the_project_of_the_env_file_is_looked_for(both: Checkout) -> None:
    """Containers are found under the name that COMPOSE_PROJECT_NAME gives them in `.env`."""
    (both.root / ".env").write_text("COMPOSE_PROJECT_NAME=mine\n")
    both.answer(local_says(3))
    both.engine('case "$*" in "ps "*project=mine*) echo 1a2b3c ;; esac')
    both.verb("down")
    assert both.asked()[-1].endswith("down --remove-orphans")


@pytest.mark.parametrize("verb", ["status", "logs", "down", "stop"])
def test_an_interrupted_installation_is_said(checkout: Checkout, verb: str) -> None:
    """Between the beginning and the end of an installation a verb says how it goes on, and does not succeed."""
    done = checkout.verb(verb)
    assert done.returncode == 3
    assert done.stderr == "The setting up was interrupted: './deploy.sh setup' goes on.\n"
    assert not any("services.local" in line for line in checkout.asked())


@pytest.mark.parametrize(("verb", "status"), [("status", 3), ("logs", 3), ("down", 0), ("stop", 0)])
def test_before_anything_was_set_up(checkout: Checkout, verb: str, status: int) -> None:
    """In a fresh checkout the verbs say that there is nothing; to stop nothing is no failure."""
    shutil.rmtree(checkout.root / ".venv")
    done = checkout.verb(verb)
    assert done.returncode == status
    assert ("./deploy.sh local" in done.stderr) if status else (done.stdout == "Nothing runs.\n")
