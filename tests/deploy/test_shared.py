"""Which variables a shared secret may set: each one that there is has been decided on."""

import re
from pathlib import Path

import pytest

from deploy.envfile import BadName
from deploy.shared import SHARED, check_shared
from docs.environment import environment

ROOT = Path(__file__).parents[2]

OWN = {
    "ANAMNESIS_BIND": "where this machine listens",
    "ANAMNESIS_CLAUDE_CLI": "a program",
    "ANAMNESIS_CLAUDE_SSH": "where keys and texts are sent",
    "ANAMNESIS_CLAUDE_SSH_KEY": "a path",
    "ANAMNESIS_CLAUDE_SSH_KNOWN_HOSTS": "a path",
    "ANAMNESIS_CLAUDE_URL": "where keys and texts are sent",
    "ANAMNESIS_CPUS": "what this machine has",
    "ANAMNESIS_DATA_DIR": "a path",
    "ANAMNESIS_DOCUMENT_MEMORY": "what this machine has",
    "ANAMNESIS_GATEWAY_URL": "where keys and texts are sent",
    "ANAMNESIS_GID": "whose rights ingest has",
    "ANAMNESIS_HOST": "where this machine listens",
    "ANAMNESIS_INGEST_INSTANCE": "this machine's name",
    "ANAMNESIS_INGEST_URL": "where keys and texts are sent",
    "ANAMNESIS_MEMORY_URL": "where keys and texts are sent",
    "ANAMNESIS_MODELS_DIR": "a path",
    "ANAMNESIS_OLLAMA_URL": "where keys and texts are sent",
    "ANAMNESIS_OPENAI_URLS": "where keys and texts are sent",
    "ANAMNESIS_PYTHON": "a program",
    "ANAMNESIS_RERANKER": "a path",
    "ANAMNESIS_SECRETS_NAME": "which secret is trusted",
    "ANAMNESIS_SOURCES": "paths",
    "ANAMNESIS_TAG": "an image",
    "ANAMNESIS_TRANSCRIPT_ROOTS": "a path",
    "ANAMNESIS_UID": "whose rights ingest has",
    "ANAMNESIS_URL_HOSTS": "what this machine reaches",
    "ANAMNESIS_URL_SCHEMES": "what this machine reaches",
    "ANAMNESIS_URL": "where keys and texts are sent",
    "ANAMNESIS_VENV": "a program",
    "BUILD_NETWORK": "what a build can reach",
    "CLAUDE_PROJECTS": "a path",
    "COMPOSE_PROJECT_NAME": "steers Compose",
    "MONGO_IMAGE": "an image",
    "PYTHON_IMAGE": "an image",
    "SOURCES": "paths",
    "TORCH_INDEX_URL": "where programs are installed from",
    "TRAINER_URLS": "where keys and texts are sent",
}
"""Variables that a machine sets itself, and why."""


def test_every_variable_is_decided_on() -> None:
    """Each variable of `.env.example` is either shared or a machine's own."""
    known = set(re.findall(r"^#([A-Z][A-Z0-9_]*)=", environment(), re.MULTILINE))
    assert len(known) > 50
    assert known == SHARED | OWN.keys()
    assert not SHARED & OWN.keys()


def test_what_compose_reads_is_decided_on() -> None:
    """So is each variable that docker-compose.yml puts into a value."""
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert used <= SHARED | OWN.keys()


@pytest.mark.parametrize("name", [*OWN, "DOCKER_HOST", "PATH", "LD_PRELOAD", "PYTHONPATH", "AWS_PROFILE", "PORT"])
def test_the_rest_is_refused(name: str) -> None:
    """A shared secret cannot choose this machine's programs, images, paths, users or addresses."""
    with pytest.raises(BadName, match=f"{name} is not a setting that a shared secret may set"):
        check_shared(name)
