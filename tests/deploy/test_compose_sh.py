"""The verbs of `deploy.sh` for Compose, and the shell functions behind them: what they make of .env, what they ask of
Docker, and what they say when they cannot go on."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from pydantic import BaseModel

from deploy import envfile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the functions need, so that nobody's .env is touched."""
    directory = tmp_path / "project"
    shutil.copytree(ROOT / "deploy", directory / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "deploy.sh", directory)
    return directory


class Docker:
    """A command `docker` that answers as an engine with seven processors would, and writes down what it is asked."""

    READY = """
case "$*" in
  version*) echo 28.0.0 ;;
  "info --format {{.NCPU}}") echo 7 ;;
  ps*) echo 0123456789ab ;;
esac
"""

    def __init__(self, project: Path, directory: Path) -> None:
        self.project = project
        self._directory = directory
        directory.mkdir()
        self.answer()

    def answer(self, body: str = "") -> None:
        """What it does before it answers as ever, in shell."""
        program = self._directory / "docker"
        log = f'printf "%s\\n" "$* cpus=${{ANAMNESIS_CPUS:-}}" >>"{self._directory}/asked"'
        program.write_text(f"#!/usr/bin/env bash\n{log}\n{body}\n{self.READY}")
        program.chmod(0o755)

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call `./deploy.sh` as a person does."""
        strange = ("ANAMNESIS_", "COMPOSE_", "DOCKER_", "AWS_", "CLAUDE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        places = {"PATH": f"{self._directory}:{kept['PATH']}", "HOME": str(self._directory)}
        return subprocess.run(
            ["./deploy.sh", *arguments],
            cwd=self.project,
            env={**kept, **places},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def asked(self) -> list[str]:
        """What Compose was asked to do, in order, without what every call of it has, and without mere questions."""
        log = self._directory / "asked"
        every = f"compose --project-directory {self.project} --file {self.project}/docker-compose.yml "
        lines = log.read_text().splitlines() if log.exists() else []
        asked = [line.removeprefix(every) for line in lines if line.startswith(every)]
        return [line for line in asked if "exec -T gateway" not in line]


@pytest.fixture
def docker(project: Path, tmp_path: Path) -> Docker:
    return Docker(project, tmp_path / "engine")


def call(project: Path, function: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call one function as deploy.sh does."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANAMNESIS_", "COMPOSE_"))}
    load = 'source deploy/envfile.sh; envfile_load "$PWD/.env"; source deploy/compose.sh'
    script = f'set -euo pipefail; {load}; "$@"'
    return subprocess.run(
        ["bash", "-c", script, "deploy", function, *arguments],
        cwd=project,
        env={**inherited, "VENV": sys.prefix, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def variables(project: Path) -> dict[str, str]:
    lines = (project / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_prepare_makes_keys(project: Path) -> None:
    """The first call makes .env, mode 600, with keys of 256 bits, and shows the API key; the second changes nothing."""
    first = call(project, "compose_prepare")
    made = variables(project)
    secrets = ("ANAMNESIS_API_KEY", "ANAMNESIS_SERVICE_KEY", "ANAMNESIS_MONGODB_PASSWORD")
    assert all(len(made[name].removeprefix("anm_")) == 64 for name in secrets)
    assert len({made[name] for name in secrets}) == 3
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert made["ANAMNESIS_API_KEY"] in first.stdout
    assert made["ANAMNESIS_SERVICE_KEY"] not in first.stdout + first.stderr
    assert made["ANAMNESIS_MONGODB_PASSWORD"] not in first.stdout + first.stderr
    second = call(project, "compose_prepare")
    assert second.stdout == second.stderr == ""
    assert variables(project) == made


def test_prepare_keeps_what_is_there(project: Path) -> None:
    """What .env has stays, a last line without its end too; a file that others can read is closed, and it says so."""
    (project / ".env").write_text("ANAMNESIS_API_KEY=mine\n# note\nANAMNESIS_BIND=0.0.0.0")
    (project / ".env").chmod(0o644)
    done = call(project, "compose_prepare")
    assert "was readable by others" in done.stdout
    assert (project / ".env").read_text().startswith("ANAMNESIS_API_KEY=mine\n# note\nANAMNESIS_BIND=0.0.0.0\n")
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert variables(project)["ANAMNESIS_API_KEY"] == "mine"


def test_prepare_takes_a_given_key(project: Path) -> None:
    """A key given in the environment is kept for the next start and not shown; a weak one is refused by name."""
    done = call(project, "compose_prepare", ANAMNESIS_API_KEY="given-" + "x" * 20)
    assert variables(project)["ANAMNESIS_API_KEY"] == "given-" + "x" * 20
    assert "given-" not in done.stdout + done.stderr
    (project / ".env").unlink()
    refused = call(project, "compose_prepare", ANAMNESIS_API_KEY="short")
    assert refused.returncode != 0
    assert refused.stderr.startswith("ANAMNESIS_API_KEY: expected 16 to 200")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1\n", "1"),
        ("A=1\nA=2", "2"),
        ("export A='a b'\n", "a b"),
        ('A = "x"\n', "x"),
        ("  A=1", "1"),
        ("A=/x  # note\n", "/x"),
        ("A=/x#y\n", "/x#y"),
        ("A= # note\n", ""),
        ("A=#1\n", "#1"),
        ("A='a # b' # note\n", "a # b"),
        ('A="a # b"\t# note\n', "a # b"),
        ('A="it\'s \\$5 \\"now\\" \\\\ then"\n', 'it\'s $5 "now" \\ then'),
        ("A=with space \t\r\n", "with space"),
        ("A='open\n", "'open"),
        ("A=a=b\n", "a=b"),
        ("B=1\n", ""),
        ("#A=1\n", ""),
        ("AA=1\n", ""),
    ],
)
def test_value_is_read_not_run(project: Path, text: str, value: str) -> None:
    """A value of .env is taken from its last line, without quotes, escapes and comments; the file is never run."""
    (project / ".env").write_text(text + "\nB=$(touch ran)\n")
    assert call(project, "compose_value", "A").stdout == value
    assert not (project / "ran").exists()


@pytest.mark.parametrize(
    "value", ["plain", "it's", 'say "so"', "a\\b", "5$ 'each'", "$(touch ran)", "# no note", " x ", ""]
)
def test_what_is_written_is_read(project: Path, value: str) -> None:
    """Every value that `env pull` and `env set` write into .env is read from there as it was."""
    (project / ".env").write_text(f"A={envfile.quote(value)}\n")
    assert call(project, "compose_value", "A").stdout == value


def test_settings_of_a_pull_count_at_once(project: Path) -> None:
    """Loaded again, .env replaces what it gave before, and never what the environment has."""
    (project / ".env").write_text("ANAMNESIS_BIND=old\nANAMNESIS_TAG=old\nANAMNESIS_UID=old\n")
    again = 'printf "ANAMNESIS_BIND=new\\nANAMNESIS_TAG=new\\n" >.env; envfile_load "$PWD/.env"'
    shown = call(
        project, "eval", f'{again}; echo "$ANAMNESIS_BIND $ANAMNESIS_TAG ${{ANAMNESIS_UID-none}}"', ANAMNESIS_TAG="mine"
    )
    assert shown.stdout == "new mine none\n"


OVERRIDE = "data/compose.ingest.yml"


class Mount(BaseModel, extra="forbid"):
    type: str
    source: str
    target: str
    read_only: bool
    bind: dict[str, bool]


class Ingest(BaseModel, extra="forbid"):
    environment: dict[str, str] = {}
    volumes: list[Mount] = []
    networks: list[str] = []


def override(project: Path) -> Ingest:
    """What was made of this machine's settings, as Compose reads it: `$$` stands for `$`."""
    text = (project / OVERRIDE).read_text()
    assert "$" not in text.replace("$$", "")
    (service,) = yaml.safe_load(text.replace("$$", "$"))["services"].items()
    assert service[0] == "ingest"
    return Ingest.model_validate(service[1])


def test_sources_are_mounted_at_their_own_places(project: Path, tmp_path: Path) -> None:
    """Each directory of SOURCES comes read-only to where it is on this machine, whatever its name is made of."""
    names = ["projects", "it's mine", "5$ {x} #1", 'say "so"', "größe", "-n", "*"]
    for name in names:
        (tmp_path / "srv" / name).mkdir(parents=True)
    places = [str(tmp_path / "srv" / name) for name in names]
    written = f"{places[0]}/, {','.join(places[1:])} ,,{places[0]}, ~/projects"
    done = call(project, "compose_sources", SOURCES=written, HOME=str(tmp_path / "srv"))
    assert done.returncode == 0, done.stderr
    made = override(project)
    assert [mount.source for mount in made.volumes] == [mount.target for mount in made.volumes] == places
    assert all(mount.type == "bind" and mount.read_only for mount in made.volumes)
    assert all(mount.bind == {"create_host_path": False} for mount in made.volumes)
    assert made.environment == {"ANAMNESIS_SOURCES": ",".join(["/sources", *places])}
    assert made.networks == []
    assert stat.S_IMODE((project / OVERRIDE).stat().st_mode) == 0o600


def test_a_way_out_only_to_fetch_documents(project: Path) -> None:
    """Ingest gets a network that leads outside where hosts are named, and loses it with them."""
    (project / ".env").write_text("ANAMNESIS_URL_HOSTS=docs.example.org\n")
    assert call(project, "compose_sources").returncode == 0
    assert override(project) == Ingest(networks=["outside"])
    (project / ".env").write_text("ANAMNESIS_URL_HOSTS=\nSOURCES=\n")
    assert call(project, "compose_sources").returncode == 0
    assert not (project / OVERRIDE).exists()


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("projects", "is not absolute"),
        ("./x", "is not absolute"),
        ("/nowhere/at/all", "there is no directory"),
        ("TMP/file", "there is no directory"),
        ("TMP/a:b", "has a colon"),
        ("TMP/x/../y", "'.' or '..'"),
        ("TMP/x\ny", "cannot be seen"),
        ("TMP/x\r", "cannot be seen"),
        ("/", "a container has something of its own"),
        ("//", "a container has something of its own"),
        ("/etc", "a container has something of its own"),
        ("/usr/lib", "a container has something of its own"),
        ("/tmp", "a container has something of its own"),
        ("/proc", "belongs to the system"),
        ("/proc/self", "belongs to the system"),
        ("/sys/kernel", "belongs to the system"),
        ("/dev", "belongs to the system"),
        ("/run", "belongs to the system"),
        ("/var/run", "belongs to the system"),
        ("TMP/link-to-root", "belongs to the system"),
        ("TMP/link-to-proc", "belongs to the system"),
        ("TMP/sockets", "the engine's socket"),
        ("TMP/sockets/docker.sock", "there is no directory"),
        ("TMP/good,/dev/shm", "belongs to the system"),
    ],
)
def test_what_is_not_mounted(project: Path, tmp_path: Path, written: str, why: str) -> None:
    """The system, the engine, what a container has itself and what could be misread stay out; it is said why."""
    for name in ("good", "sockets", "x", "y"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link-to-root").symlink_to("/")
    (tmp_path / "link-to-proc").symlink_to("/proc")
    with socket.socket(socket.AF_UNIX) as engine, contextlib.chdir(tmp_path / "sockets"):
        engine.bind("docker.sock")
    done = call(project, "compose_sources", SOURCES=written.replace("TMP", str(tmp_path)), HOME=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.startswith("SOURCES: ")
    assert why in done.stderr
    assert not (project / OVERRIDE).exists()


def test_compose_is_told_of_what_was_made(docker: Docker, tmp_path: Path) -> None:
    """`up` and every verb after it use the directories of .env; a wrong one starts nothing."""
    (tmp_path / "notes").mkdir()
    (docker.project / ".env").write_text(f"SOURCES={tmp_path}/notes\n")
    added = f"--file {docker.project}/{OVERRIDE}"
    for verb in ("up", "watch", "down"):
        assert docker.deploy(verb).returncode == 0
    assert docker.asked() == [
        f"{added} build cpus=",
        f"{added} {UP} cpus=7",
        f"{added} watch cpus=7",
        f"{added} down --remove-orphans cpus=",
    ]
    (docker.project / ".env").write_text("SOURCES=/proc\n")
    refused = docker.deploy("up")
    assert refused.returncode != 0
    assert "belongs to the system" in refused.stderr
    assert len(docker.asked()) == 4


def test_the_lines_to_try_fit_the_settings(project: Path) -> None:
    """What `up` prints to try calls the command that is there, at the address that was chosen."""
    shown = call(project, "compose_where", VENV=f"{project}/.venv").stdout
    assert "\n  .venv/bin/anamnesis ingest" in shown
    (project / ".env").write_text("ANAMNESIS_GATEWAY_PORT=4010\nANAMNESIS_BIND=0.0.0.0\nCOMPOSE_PROJECT_NAME=mine\n")
    shown = call(project, "compose_where", VENV="/srv/my venv").stdout
    assert "\n  ANAMNESIS_URL=http://127.0.0.1:4010 /srv/my\\ venv/bin/anamnesis ingest" in shown
    assert "volumes mine_*" in shown


def test_without_docker(project: Path, tmp_path: Path) -> None:
    """Without Docker, `up` says so, names the way that needs none, and leaves no .env behind."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = call(project, "compose_up", PATH=str(tools))
    assert done.returncode != 0
    assert "Docker is not installed" in done.stderr
    assert "./deploy.sh local" in done.stderr
    assert not (project / ".env").exists()


def test_without_an_engine(project: Path, tmp_path: Path) -> None:
    """Where Docker is installed and its engine does not run, `up` says that and starts nothing."""
    if not shutil.which("docker"):
        pytest.skip("there is no docker command on this machine")
    done = call(project, "compose_up", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode != 0
    assert "The Docker engine does not answer" in done.stderr or "no Compose plugin" in done.stderr
    assert not (project / ".env").exists()


FETCHING = "the embedding model X is being fetched"
ENGINE = """#!/bin/bash
# The engine's command: `up` comes to an end when memory is ready, which takes as many tries as it has things to say.
case " $* " in
  *" up "*) echo up >>tries; (($(wc -l <tries) > $(wc -l <says))) ;;
  *" exec "*) sed -n "$(wc -l <tries)p" says ;;
esac
"""


@pytest.mark.parametrize(
    ("says", "tries", "ready"),
    [
        ((f"{FETCHING} (10 MB so far)", f"{FETCHING} (20 MB so far)"), 3, True),
        ((f"{FETCHING} (10 MB so far)", f"{FETCHING} (10 MB so far)"), 2, False),
        (("the database is away",), 1, False),
    ],
)
def test_a_model_that_is_fetched_is_waited_for(
    project: Path, tmp_path: Path, says: tuple[str, ...], tries: int, ready: bool
) -> None:
    """`up` waits on as long as more of a model comes, and tells how much; anything else ends it with the reason."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(ENGINE)
    docker.chmod(0o755)
    (project / "says").write_text("".join(f"{line}\n" for line in says))
    done = call(project, "compose_run", PATH=f"{docker.parent}:{os.environ['PATH']}")
    assert (done.returncode == 0) is ready
    assert len((project / "tries").read_text().splitlines()) == tries
    assert (f"Not everything became ready: {says[-1]}" in done.stderr) is not ready
    assert done.stdout.count("Not ready yet: ") == tries - 1


UP = "up --detach --no-build --wait --wait-timeout 300"


def test_up(docker: Docker) -> None:
    """`up` makes .env, builds, starts, waits, and says where it is and what the key is."""
    done = docker.deploy("up")
    assert done.returncode == 0, done.stderr
    assert docker.asked() == ["build cpus=", f"{UP} cpus=7"]
    assert variables(docker.project)["ANAMNESIS_API_KEY"] in done.stdout
    assert "Anamnesis is ready." in done.stdout
    assert "http://127.0.0.1:3010" in done.stdout
    *_, opening, hint = done.stdout.strip().splitlines()
    assert (opening, " login' makes a link" in hint) == ("Open http://127.0.0.1:3010", True)


def test_up_ends_with_the_one_address_to_open(docker: Docker) -> None:
    """The gateway is asked for a link that logs in, and the last address that is printed is that link."""
    token = "a-B_" * 11
    docker.answer(f'[[ $* != *"exec -T gateway python -c"* ]] || {{ echo "/login?token={token}"; exit; }}')
    (docker.project / ".env").write_text("ANAMNESIS_GATEWAY_PORT=4010\n")
    done = docker.deploy("start")
    assert done.returncode == 0, done.stderr
    *_, opening, hint = done.stdout.strip().splitlines()
    assert opening == f"Open http://127.0.0.1:4010/login?token={token}"
    assert "works once" in hint
    assert "ANAMNESIS_URL=http://127.0.0.1:4010" in hint
    assert " login' makes another" in hint


def test_processors_are_the_engines(docker: Docker) -> None:
    """The engine is asked at every start how many processors it has, unless .env says how many may be used."""
    docker.deploy("start")
    assert docker.asked() == [f"{UP} cpus=7"]
    assert "ANAMNESIS_CPUS" not in variables(docker.project)
    docker.answer("[[ $1 != info ]] || { echo 2; exit; }")
    docker.deploy("start")
    docker.deploy("watch")
    with (docker.project / ".env").open("a") as file:
        file.write("ANAMNESIS_CPUS=3\n")
    docker.deploy("start")
    docker.answer('[[ $1 != info ]] || { echo "cannot tell"; exit 1; }')
    assert docker.deploy("start").returncode == 0
    assert docker.asked()[1:] == [f"{UP} cpus=2", "watch cpus=2", f"{UP} cpus=", f"{UP} cpus="]


def test_start_and_rebuild(docker: Docker) -> None:
    """`start` builds nothing; `rebuild` builds and starts what it is told; neither makes the keys anew."""
    assert "ready" in docker.deploy("start", "gateway").stdout
    made = variables(docker.project)
    assert docker.deploy("rebuild", "memory").returncode == 0
    assert docker.asked() == [f"{UP} gateway cpus=7", "build memory cpus=", f"{UP} memory cpus=7"]
    assert variables(docker.project) == made


def test_up_does_not_start_what_could_not_be_built(docker: Docker) -> None:
    """A build that fails ends `up` and `rebuild` with an error; what runs is left as it is."""
    docker.answer('case "$*" in *" build"*) echo "no space left" >&2; exit 17 ;; esac')
    for verb in ("up", "rebuild"):
        done = docker.deploy(verb)
        assert done.returncode != 0
        assert "no space left" in done.stderr
        assert "ready" not in done.stdout
    assert docker.asked() == ["build cpus=", "build cpus="]


def test_up_shows_what_did_not_get_ready(docker: Docker) -> None:
    """When a service does not get ready, `up` fails and shows its last lines, and those of no other."""
    docker.answer("""
case "$*" in
  *" up "*) exit 1 ;;
  *"ps --all --format"*) printf "%s\\n" "mongo running healthy" "memory restarting " "gateway created " ;;
  *"logs --no-log-prefix --tail 20 memory") echo "ANAMNESIS_EMBED_QUEUE = 'x': expected a number" ;;
esac""")
    done = docker.deploy("up")
    assert done.returncode == 1
    assert "Not everything became ready" in done.stderr
    assert "The last lines of memory:\nANAMNESIS_EMBED_QUEUE = 'x': expected a number\n" in done.stderr
    assert "lines of mongo" not in done.stderr
    assert "ready." not in done.stdout


def test_verbs_on_what_is_there(docker: Docker) -> None:
    """`status`, `logs`, `watch`, `stop` and `down` go to Compose with what they are given."""
    docker.deploy("start")
    for arguments in (["status"], ["logs", "memory", "ingest"], ["watch"], ["stop", "memory"], ["down", "--volumes"]):
        done = docker.deploy(*arguments)
        assert done.returncode == 0, done.stderr
    assert [line.rsplit(" cpus=")[0] for line in docker.asked()[1:]] == [
        r"ps --all --format table {{.Service}}\t{{.Status}}\t{{.Ports}}",
        "logs --follow --tail 200 memory ingest",
        "watch",
        "stop memory",
        "down --remove-orphans --volumes",
    ]


@pytest.mark.parametrize("verb", ["status", "logs", "watch", "stop", "down"])
def test_nothing_is_made_where_nothing_was_started(docker: Docker, verb: str) -> None:
    """Without .env these verbs say that nothing was started here, and make none."""
    done = docker.deploy(verb)
    assert done.returncode != 0
    assert "'./deploy.sh up' has not been run in this directory" in done.stderr
    assert docker.asked() == []
    assert not (docker.project / ".env").exists()


@pytest.mark.parametrize("verb", ["compose_cuda", "compose_rocm"])
def test_gpu_verbs_say_that_they_are_not_there(project: Path, verb: str) -> None:
    """The verbs of the GPU trainer fail with one plain sentence."""
    done = call(project, verb)
    assert done.returncode != 0
    assert "not part of this release" in done.stderr


@pytest.mark.usefixtures("aws")
def test_settings_are_pulled_first(project: Path, tmp_path: Path) -> None:
    """With a secret configured, its values come into .env before keys are made, so shared keys are not made anew."""
    client = boto3.client("secretsmanager")
    client.create_secret(Name="team/memory", SecretString='{"ANAMNESIS_API_KEY": "shared-key-of-the-team"}')
    (project / ".env").write_text("ANAMNESIS_SECRETS_NAME=team/memory\n")
    done = call(project, "compose_settings", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert variables(project)["ANAMNESIS_API_KEY"] == "shared-key-of-the-team"
    assert variables(project)["ANAMNESIS_SECRETS_NAME"] == "team/memory"
    assert "shared-key" not in done.stdout + done.stderr
    assert "ANAMNESIS_API_KEY" not in done.stdout
    assert (tmp_path / ".claude/projects").is_dir()


@pytest.mark.usefixtures("aws")
def test_nothing_starts_without_the_settings(project: Path) -> None:
    """When a configured secret cannot be had, `up` ends before it makes keys of its own."""
    done = call(project, "compose_settings", ANAMNESIS_SECRETS_NAME="nowhere")
    assert done.returncode != 0
    assert "there is no such secret" in done.stderr
    assert "Nothing was started" in done.stderr
    assert not (project / ".env").exists()


@pytest.mark.usefixtures("aws")
def test_env_verbs(project: Path) -> None:
    """`env set` and `env pull` work from the shell as they do in Python."""
    assert call(project, "env_set", "ANAMNESIS_LOG_LEVEL", "debug", "--create").returncode == 0
    assert call(project, "env_pull").returncode == 0
    assert variables(project) == {"ANAMNESIS_LOG_LEVEL": "debug"}
