"""`.env.example`: every variable, from the settings classes and from what the shell reads."""

import inspect
from collections.abc import Iterator
from importlib import import_module

from pydantic import AliasChoices, HttpUrl, SecretStr

from anamnesis.kit.settings import Settings

SETTINGS = {
    "Common to all services": "anamnesis.kit.settings",
    "The gateway": "services.gateway.settings",
    "The memory service": "services.memory.settings",
    "Reading transcripts: the ingest service and the `anamnesis` command": "anamnesis.transcripts.settings",
    "The ingest service": "services.ingest.settings",
    "The `anamnesis` command": "services.console.settings",
    "The services on one machine without containers (`./deploy.sh local`)": "services.local.settings",
}

SHELL = {
    "./deploy.sh": {
        "ANAMNESIS_VENV": "Directory of the Python environment that it makes; none = .venv beside deploy.sh.",
        "ANAMNESIS_PYTHON": "Interpreter to make it with; none = the newest of python3.13, 3.12, 3.11 and python3.",
        "TORCH_INDEX_URL": "Package index that torch comes from; none = the CPU build.",
    },
    "Docker Compose (`./deploy.sh up` makes the keys and passwords itself)": {
        "ANAMNESIS_MONGODB_PASSWORD": "Password of the database's user `anamnesis`.",
        "ANAMNESIS_MONGODB_PORT": "Port of the database on this machine's loopback; none = 5438.",
        "ANAMNESIS_BIND": "Address of this machine that the gateway is published on; none = 127.0.0.1.",
        "ANAMNESIS_CPUS": "Processors that the database and the memory service may use each; none = the engine's.",
        "ANAMNESIS_MEMORY_LIMIT": "Memory that the memory service may use; none = 4g.",
        "ANAMNESIS_UID": "User id that ingest runs as, so that it can read your transcripts; made by ./deploy.sh up.",
        "ANAMNESIS_GID": "Group id that goes with it.",
        "ANAMNESIS_TAG": "Tag of the images that are built; none = local.",
        "ANAMNESIS_WAIT": "Seconds that ./deploy.sh up waits until everything is ready; none = 300.",
        "CLAUDE_PROJECTS": "Directory of transcripts that is mounted read-only; none = ~/.claude/projects.",
        "SOURCES": "Directories that ingest may crawl, mounted read-only at their own paths (comma-separated); none = none.",
        "MONGO_IMAGE": "Image of the database; none = a pinned release of MongoDB Atlas Local.",
        "MONGO_MEMORY": "Memory that the database may use; none = 4g.",
        "PYTHON_IMAGE": "Base image of the services; none = python:3.12-slim.",
        "BUILD_NETWORK": "Network that images are built in; none = the engine's default.",
        "COMPOSE_PROJECT_NAME": "Compose's own: name before containers and volumes; none = anamnesis.",
    },
    "AWS Secrets Manager (`./deploy.sh env`)": {
        "ANAMNESIS_SECRETS_NAME": "Secret that .env is pulled from before every start; none = nothing is pulled.",
    },
}
"""Variables that the shell reads, which no settings class knows."""


def environment() -> str:
    """`.env.example`."""
    lines = [
        "# Every variable. Copy what you change to .env, or set it in the environment, which wins.",
        "# The value after each name is the default. Made by `python -m docs.generate`.",
    ]
    seen: set[str] = set()
    for title, module in SETTINGS.items():
        entries = [entry for entry in _variables(module) if entry[0] not in seen]
        seen.update(name for name, _, _ in entries)
        lines += ["", f"# {title}"]
        for name, default, meaning in entries:
            lines += [f"# {meaning}", f"#{name}={default}"]
    for title, variables in SHELL.items():
        lines += ["", f"# {title}"]
        for name, meaning in variables.items():
            lines += [f"# {meaning}", f"#{name}="]
    return "\n".join(lines) + "\n"


def _variables(module: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each field of the settings classes that a module defines."""
    for _, settings in inspect.getmembers(import_module(module), inspect.isclass):
        if not issubclass(settings, Settings) or settings.__module__ != module:
            continue
        prefix = settings.model_config.get("env_prefix") or ""
        for name, field in settings.model_fields.items():
            if name in settings.__annotations__:
                meaning = " ".join((field.description or "").split())
                known_as = field.validation_alias
                variable = known_as.choices[0] if isinstance(known_as, AliasChoices) else f"{prefix}{name}".upper()
                yield str(variable), _shown(field.default), meaning


def other_names() -> set[str]:
    """Names besides the listed ones under which a variable is read too."""
    fields = [
        field
        for module in SETTINGS.values()
        for _, settings in inspect.getmembers(import_module(module), inspect.isclass)
        if issubclass(settings, Settings)
        for field in settings.model_fields.values()
    ]
    known = [field.validation_alias for field in fields if isinstance(field.validation_alias, AliasChoices)]
    return {str(name) for names in known for name in names.choices[1:]}


def _shown(default: object) -> str:
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    return str(default).removesuffix("/") if isinstance(default, HttpUrl) else str(default)
