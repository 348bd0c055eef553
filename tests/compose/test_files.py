"""What docker-compose.yml, the Dockerfile and .dockerignore promise, read from the files themselves."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from pydantic import AliasChoices, BaseModel, Field

from anamnesis.kit.settings import Settings
from services.gateway.settings import GatewaySettings
from services.ingest.documents.desk import AT_ONCE
from services.ingest.settings import IngestSettings
from services.memory.settings import MemorySettings

ROOT = Path(__file__).parents[2]
OURS = ("memory", "ingest", "gateway")

EXCEPTIONS = {
    ("mongo", "user"): "its runner chooses its own user",
    ("mongo", "read_only"): "its runner writes key file, logs and sockets outside the three volumes",
    ("mongo", "cap_add"): "where it starts as root it must hand the volumes over and step down",
}
"""The rules that a service is let off, and why. Nothing else may be missing, and nothing here may be needless."""


class Build(BaseModel):
    context: str
    target: str
    network: str
    args: dict[str, str]


class Healthcheck(BaseModel):
    test: list[str]
    interval: str
    timeout: str
    retries: int
    start_period: str


class Limits(BaseModel):
    memory: str
    cpus: str
    pids: int


class Resources(BaseModel):
    limits: Limits


class Deploy(BaseModel):
    resources: Resources


class Logging(BaseModel):
    driver: str
    options: dict[str, str]


class Bind(BaseModel):
    type: str
    source: str
    target: str
    read_only: bool = False


class Secret(BaseModel, extra="forbid"):
    file: str


class Watched(BaseModel):
    path: str
    action: str


class Develop(BaseModel):
    watch: list[Watched]


class Condition(BaseModel):
    condition: str


class Service(BaseModel, extra="forbid"):
    """Every key that a service of ours may use; a new one must be thought about here."""

    image: str
    build: Build | None = None
    hostname: str | None = None
    command: list[str] | None = None
    environment: dict[str, str | None]
    user: str | None = None
    read_only: bool = False
    init: bool = False
    restart: str
    tmpfs: list[str] = Field(default_factory=list)
    cap_drop: list[str]
    cap_add: list[str] = Field(default_factory=list)
    security_opt: list[str]
    networks: list[str]
    ports: list[str] = Field(default_factory=list)
    volumes: list[str | Bind] = Field(default_factory=list)
    secrets: list[str] = Field(default_factory=list)
    depends_on: dict[str, Condition] = Field(default_factory=dict)
    healthcheck: Healthcheck
    stop_grace_period: str
    deploy: Deploy
    logging: Logging
    develop: Develop | None = None


class Network(BaseModel, extra="forbid"):
    internal: bool = False
    driver_opts: dict[str, str] = Field(default_factory=dict)


class Project(BaseModel):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network | None]
    volumes: dict[str, None]
    secrets: dict[str, Secret]


@pytest.fixture(scope="module")
def project() -> Project:
    return Project.model_validate(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def broken_rules(name: str, service: Service) -> set[tuple[str, str]]:
    """The hardening rules that a service does not keep."""
    rules = {
        "user": service.user is not None and re.search(r"(^|:-)0(\}|:|$)", service.user) is None,
        "read_only": service.read_only,
        "cap_drop": service.cap_drop == ["ALL"],
        "cap_add": not service.cap_add,
        "no-new-privileges": service.security_opt == ["no-new-privileges:true"],
        "tmpfs": all("noexec" in mount and "nosuid" in mount and "size=" in mount for mount in service.tmpfs),
        "restart": service.restart == "unless-stopped",
        "logging": service.logging.driver == "json-file" and {"max-size", "max-file"} <= set(service.logging.options),
        "pids": 0 < service.deploy.resources.limits.pids <= 1024,
        "memory": re.fullmatch(r"\d+[mg]|\$\{\w+:-\d+[mg]\}", service.deploy.resources.limits.memory) is not None,
        "cpus": re.fullmatch(r"\d+|\$\{\w+:-\d+\}", service.deploy.resources.limits.cpus) is not None,
        "pinned": re.search(r"(:latest|^[^:]+)$", service.image) is None,
        "ports": all(port.startswith(("127.0.0.1:", "${ANAMNESIS_BIND:-127.0.0.1}:")) for port in service.ports),
        "socket": "docker.sock" not in str(service.volumes) and ".ssh" not in str(service.volumes),
        "reload": "--reload" not in str(service.command),
    }
    return {(name, rule) for rule, kept in rules.items() if not kept}


def test_every_service_is_hardened(project: Project) -> None:
    """Each service keeps every rule, but for the exceptions listed with their reason, which are all needed."""
    assert set(project.services) == {"mongo", *OURS}
    broken = {rule for name, service in project.services.items() for rule in broken_rules(name, service)}
    assert broken == set(EXCEPTIONS)


def test_database_image_is_atlas_local(project: Project) -> None:
    """The database is one fixed release of Atlas Local 8.2, with the fixed name, volumes and probe that it needs."""
    mongo = project.services["mongo"]
    assert re.fullmatch(r"\$\{MONGO_IMAGE:-mongodb/mongodb-atlas-local:8\.2\.\d+-\d{8}T\d{6}Z\}", mongo.image), (
        mongo.image
    )
    assert mongo.hostname == "mongo"
    mounts = [str(volume).split(":") for volume in mongo.volumes]
    assert [target for _, target in mounts] == ["/data/db", "/data/configdb", "/data/mongot"]
    assert {source for source, _ in mounts} <= set(project.volumes)
    assert mongo.healthcheck.test == ["CMD", "runner", "healthcheck"]


def test_only_memory_reaches_the_database(project: Project) -> None:
    """The database sits on an internal network that memory alone shares, and on one of its own for 5438."""
    members = {
        network: {name for name, service in project.services.items() if network in service.networks}
        for network in project.networks
    }
    assert members["database"] == {"mongo", "memory"}
    assert members["loopback"] == {"mongo"}
    database, loopback = project.networks["database"], project.networks["loopback"]
    assert database is not None
    assert database.internal
    assert loopback is not None
    assert loopback.driver_opts == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert project.services["mongo"].ports == ["127.0.0.1:${ANAMNESIS_MONGODB_PORT:-5438}:27017"]


def test_who_can_reach_out(project: Project) -> None:
    """Services talk on an internal network; the gateway and memory have a way out, ingest has none."""
    services = project.networks["services"]
    assert services is not None
    assert services.internal
    assert all("services" in project.services[name].networks for name in OURS)
    assert {name for name in OURS if "outside" in project.services[name].networks} == {"memory", "gateway"}


def test_only_the_gateway_is_published(project: Project) -> None:
    """One port of ours is published, on loopback unless ANAMNESIS_BIND says otherwise."""
    assert {name: project.services[name].ports for name in OURS} == {
        "memory": [],
        "ingest": [],
        "gateway": ["${ANAMNESIS_BIND:-127.0.0.1}:${ANAMNESIS_GATEWAY_PORT:-3010}:3010"],
    }


def test_starts_in_order(project: Project) -> None:
    """A service starts when what it stands on is healthy; every health check is bounded and needs no shell."""
    waits = {name: {on: c.condition for on, c in project.services[name].depends_on.items()} for name in OURS}
    assert waits == {
        "memory": {"mongo": "service_healthy"},
        "ingest": {"memory": "service_healthy"},
        "gateway": {"memory": "service_healthy"},
    }
    for name, port in (("memory", 3012), ("ingest", 3013), ("gateway", 3010)):
        test = project.services[name].healthcheck.test
        assert test[:3] == ["CMD", "python", "-c"]
        assert f"http://127.0.0.1:{port}/ready" in test[3]
        assert "timeout=" in test[3]
    starts = {name: project.services[name].healthcheck.start_period for name in OURS}
    assert starts == {"memory": "3600s", "ingest": "60s", "gateway": "60s"}  # memory may have a model to fetch


def test_stop_leaves_time(project: Project) -> None:
    """A stop waits long enough for a checkpoint, an acknowledged batch and the database's last flush."""
    grace = {name: service.stop_grace_period for name, service in project.services.items()}
    assert grace == {"mongo": "60s", "memory": "100s", "ingest": "60s", "gateway": "30s"}


def test_sources_are_read_only(project: Project) -> None:
    """Ingest sees transcripts through a read-only mount, and writes nowhere."""
    (mount,) = project.services["ingest"].volumes
    assert isinstance(mount, Bind)
    assert mount.read_only
    assert mount.target == "/sources/claude"
    assert mount.source == "${CLAUDE_PROJECTS:-~/.claude/projects}"


def test_an_upload_fits(project: Project) -> None:
    """Ingest has room for an upload of 50 MB more than once, and memory for it beside two readers of documents."""
    (mount,) = project.services["ingest"].tmpfs
    size = re.search(r"size=(\d+)m", mount)
    assert size
    assert int(size[1]) >= 4 * 50
    limit = int(project.services["ingest"].deploy.resources.limits.memory.removesuffix("m"))
    reader = IngestSettings.model_fields["document_memory"].default
    assert limit >= int(size[1]) + (AT_ONCE + 1) * reader + 512  # one more reads for the crawler


def test_what_is_crawled_is_decided_by_deploy_sh(project: Project) -> None:
    """The file itself mounts transcripts alone and gives ingest no way out; more is added at the start, if at all."""
    assert project.services["ingest"].environment["ANAMNESIS_SOURCES"] == "/sources"
    assert project.services["ingest"].networks == ["services"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/data/" in ignored


def test_no_secret_is_written_down(project: Project) -> None:
    """Keys and passwords come from the environment, have no default, and go only to who needs them."""
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in ("ANAMNESIS_API_KEY", "ANAMNESIS_SERVICE_KEY", "ANAMNESIS_MONGODB_PASSWORD"):
        uses = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text)
        assert any(use.startswith(":?") for use in uses), secret
        assert all(use == "" or use.startswith(":?") for use in uses), secret
    holders = {name for name, service in project.services.items() if "MONGODB_PASSWORD" in str(service.environment)}
    assert holders == {"mongo", "memory"}
    assert {n for n, s in project.services.items() if "ANAMNESIS_API_KEY" in s.environment} == {"memory"}


def test_the_ssh_key_is_the_gateways_alone(project: Project) -> None:
    """A key for `claude` elsewhere is a read-only secret of the gateway, from a file that is named, and else empty."""
    names = ("claude_ssh_key", "claude_ssh_known_hosts")
    assert {name: service.secrets for name, service in project.services.items() if service.secrets} == {
        "gateway": list(names)
    }
    for name in names:
        variable = f"ANAMNESIS_{name.upper()}"
        assert project.secrets[name].file == f"${{{variable}:-/dev/null}}"
        assert project.services["gateway"].environment[variable] == f"${{{variable}:+/run/secrets/{name}}}"
        holders = {n for n, service in project.services.items() if variable in str(service.environment)}
        assert holders == {"gateway"}


def test_only_a_gateway_that_needs_it_has_ssh(project: Project, dockerfile: str) -> None:
    """An SSH client is in the gateway's image alone, and there only where a host for it is set."""
    given = {name: project.services[name].build for name in OURS}
    asked = {name: build.args["WITH_SSH"] for name, build in given.items() if build and "WITH_SSH" in build.args}
    assert asked == {"gateway": "${ANAMNESIS_CLAUDE_SSH:+yes}"}
    assert dockerfile.count("openssh") == 1
    assert 'if [ -n "$WITH_SSH" ]; then' in stage(dockerfile, "light")


UNSET = {
    "gateway_port": "the port inside is fixed; the published one is chosen in `ports`",
    "memory_port": "fixed",
    "ingest_port": "fixed",
    "host": "set in the image",
    "data_dir": "set in the image",
    "log_json": "set in the image",
    "models_dir": "in the data volume",
    "reranker": "a directory on the host, which would have to be mounted first",
}
"""Settings that a container does not take from .env, and why."""


@pytest.mark.parametrize(
    ("name", "settings"), [("memory", MemorySettings), ("ingest", IngestSettings), ("gateway", GatewaySettings)]
)
def test_settings_reach_the_container(name: str, settings: type[Settings], project: Project) -> None:
    """Every setting of a service can be set in .env, by each of its names, but for those listed with their reason."""
    wanted = {variable for field in set(settings.model_fields) - set(UNSET) for variable in variables(settings, field)}
    assert wanted <= set(project.services[name].environment)


def variables(settings: type[Settings], field: str) -> list[str]:
    """The names under which a setting may be given."""
    alias = settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias] if isinstance(alias, str) else [f"ANAMNESIS_{field.upper()}"]


def test_watch_rebuilds(project: Project) -> None:
    """Changed code is taken over by rebuilding: nothing can be copied into a read-only file system."""
    for name in OURS:
        develop = project.services[name].develop
        assert develop is not None
        assert {watched.action for watched in develop.watch} == {"rebuild"}
        assert {f"services/{name}", "shared"} <= {watched.path for watched in develop.watch}
        assert all((ROOT / watched.path).exists() for watched in develop.watch)


def test_images_come_from_one_pattern(project: Project, dockerfile: str) -> None:
    """All images have one base, chosen by PYTHON_IMAGE; every target that is named exists."""
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", dockerfile, re.MULTILINE)
    assert stages[0] == ("${PYTHON_IMAGE}", "base")
    assert {base for base, _ in stages[1:]} == {"base"}
    assert "ARG PYTHON_IMAGE=python:3.12-slim\n" in dockerfile
    for name in OURS:
        build = project.services[name].build
        assert build is not None
        assert build.target in {stage for _, stage in stages}
        assert build.args["PYTHON_IMAGE"] == "${PYTHON_IMAGE:-python:3.12-slim}"
    memory = project.services["memory"].build
    assert memory is not None
    assert memory.args["TORCH_INDEX_URL"] == "${TORCH_INDEX_URL-https://download.pytorch.org/whl/cpu}"


def stage(dockerfile: str, name: str) -> str:
    """The text of one stage."""
    match = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    assert match, name
    return match[1]


@pytest.mark.parametrize(("name", "lock"), [("light", "requirements-light.lock"), ("memory", "requirements.lock")])
def test_image_stage(dockerfile: str, name: str, lock: str) -> None:
    """An image installs from the lock with hashes before it takes code, and ends as a numbered user without root."""
    text = stage(dockerfile, name)
    assert f"source={lock}," in text
    assert "--require-hashes" in text
    assert text.rindex("pip install") < text.index("COPY ")
    users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
    assert users[-1] == "10001:10001"
    assert not re.search(r"^(ADD|EXPOSE 22)\b|curl |wget |sudo|--trusted-host|chmod 777", dockerfile, re.MULTILINE)


def test_torch_is_the_pinned_one(dockerfile: str) -> None:
    """The image's torch is the version that the project pins."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (pin,) = [requirement for requirement in extras["memory"] if requirement.startswith("torch")]
    assert f"ARG TORCH_VERSION={pin.removeprefix('torch==')}\n" in dockerfile


CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.mark.parametrize(
    ("index", "asked"),
    [
        (CPU_INDEX, f"install --no-deps --root-user-action=ignore --index-url {CPU_INDEX} torch==1"),
        ("https://x.org/cu130", "install --root-user-action=ignore --index-url https://x.org/cu130 torch==1"),
        ("", "install --root-user-action=ignore torch==1"),
    ],
)
def test_torch_comes_with_what_its_build_needs(index: str, asked: str, dockerfile: str, tmp_path: Path) -> None:
    """Only the CPU build needs nothing but what is locked; any other is installed with its own requirements."""
    (command,) = re.findall(r"^RUN (?:--\S+ \\\n\s*)*((?:.*\\\n)*.*torch==.*)$", dockerfile, re.MULTILINE)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH_INDEX_URL": index, "TORCH_VERSION": "1"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{asked}\n"


def test_a_torch_that_does_not_load_ends_the_build(dockerfile: str) -> None:
    """The image that is built is one that can load torch, as the user who will."""
    text = stage(dockerfile, "memory")
    packages, _, rest = text.partition("--require-hashes")
    assert packages
    assert re.search(r'^USER 10001:10001\nRUN python -c "import torch', rest, re.MULTILINE)


def test_light_image_has_no_torch() -> None:
    """The lock of ingest and gateway is a part of the whole lock, without torch or what only models need."""
    light, whole = locked("requirements-light.lock"), locked("requirements.lock")
    assert light.items() <= whole.items()
    assert {"fastapi", "uvicorn", "aiohttp", "httpx", "structlog"} <= set(light)
    assert not {"torch", "transformers", "sentence-transformers", "numpy", "pymongo"} & set(light)


def test_locks_carry_hashes_and_leave_torch_out() -> None:
    """Each locked package has a hash; torch, which comes from an index of its own, is in no lock."""
    for lock in ("requirements.lock", "requirements-light.lock"):
        text = (ROOT / lock).read_text()
        assert "torch" not in locked(lock)
        blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks)


def locked(lock: str) -> dict[str, str]:
    """Name to version."""
    text = (ROOT / lock).read_text()
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)(?:\[\S+\])?==([^\s;\\]+)", text, re.MULTILINE)
    }


def test_context_holds_code_only() -> None:
    """What goes to the engine is allowed by name, so that .env, data and keys never do."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!shared/anamnesis",
        "!services",
        "!requirements*.lock",
    }
