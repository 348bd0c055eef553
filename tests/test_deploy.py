"""`deploy.sh`: settings from `.env`, which torch is taken, and what makes an installation begin again."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class Checkout:
    """A directory with deploy.sh in it, and an interpreter that writes down what it is asked instead of doing it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked = root / "asked"
        for name in ("deploy.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, root / name)
        self.python = root / ".venv" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.answer("exit 0")

    def answer(self, body: str) -> None:
        """What the interpreter does after writing down its arguments, in shell."""
        self.python.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>"{self.asked}"\n{body}\n')
        self.python.chmod(0o755)

    def __call__(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run some shell after deploy.sh was sourced."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANAMNESIS_", "TORCH_"))}
        return subprocess.run(
            ["bash", "-c", f"source ./deploy.sh; {script}"],
            cwd=self.root,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def installs(self) -> list[str]:
        """What pip was asked to install, in order."""
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [line for line in lines if line.startswith("-m pip install")]


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
        'load_env_file; printf "%s|" "$ANAMNESIS_GATEWAY_PORT" "$ANAMNESIS_DATA_DIR" "$ANAMNESIS_LOG_LEVEL" '
        '"$ANAMNESIS_HOST"; command -v bash >/dev/null',
        ANAMNESIS_GATEWAY_PORT="5010",
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "5010|/srv/with space|$(touch ran)|0.0.0.0|"
    assert not (checkout.root / "ran").exists()


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
