"""Which variables a team's secret may set: what its services must agree on, and nothing that is a machine's own.

Whoever can write the secret must not thereby choose what runs on this machine, as whom, or what it can read: no
interpreter, image, package index, path, user id or address. So names are allowed one by one. The tests hold this
list against that of all variables, where each name is here or has its reason not to be.
"""

from deploy.envfile import BadName, check_name

SHARED = frozenset(
    {
        # Keys, and the database
        "ANAMNESIS_API_KEY",
        "ANAMNESIS_SERVICE_KEY",
        "ANAMNESIS_MONGODB_DATABASE",
        "ANAMNESIS_MONGODB_PASSWORD",
        "ANAMNESIS_MONGODB_URI",
        # How services work
        "ANAMNESIS_ALLOWED_HOSTS",
        "ANAMNESIS_ALLOW_DOWNLOADS",
        "ANAMNESIS_CHAT_BACKENDS",
        "ANAMNESIS_CHAT_CONNECT",
        "ANAMNESIS_CHAT_FIRST",
        "ANAMNESIS_CHAT_HISTORY",
        "ANAMNESIS_CHAT_IDLE",
        "ANAMNESIS_CHAT_TOTAL",
        "ANAMNESIS_CLAUDE_API_KEY",
        "ANAMNESIS_CLAUDE_CLI_MODEL",
        "ANAMNESIS_CLAUDE_MODEL",
        "ANAMNESIS_DOCUMENT_SECONDS",
        "ANAMNESIS_EMBEDDING_CPU_PERCENT",
        "ANAMNESIS_EMBEDDING_DTYPE",
        "ANAMNESIS_EMBEDDING_MODEL",
        "ANAMNESIS_EMBED_QUEUE",
        "ANAMNESIS_GATEWAY_IDLE",
        "ANAMNESIS_GATEWAY_PATH",
        "ANAMNESIS_GATEWAY_RATE",
        "ANAMNESIS_GATEWAY_READ_WAIT",
        "ANAMNESIS_GATEWAY_TOTAL",
        "ANAMNESIS_GATEWAY_WAIT",
        "ANAMNESIS_HOOK_WAIT",
        "ANAMNESIS_INGEST_COMMANDS",
        "ANAMNESIS_INGEST_EXCLUDE_PROJECTS",
        "ANAMNESIS_INGEST_MAX_RAW",
        "ANAMNESIS_INGEST_MIN_SAID",
        "ANAMNESIS_INGEST_MIN_UNANSWERED",
        "ANAMNESIS_INGEST_NODS",
        "ANAMNESIS_INGEST_POLL",
        "ANAMNESIS_INGEST_SIDECHAINS",
        "ANAMNESIS_LOCAL_LOG_BYTES",
        "ANAMNESIS_LOCAL_START_WITHIN",
        "ANAMNESIS_LOCAL_STOP_WITHIN",
        "ANAMNESIS_LOGIN_DAYS",
        "ANAMNESIS_LOG_JSON",
        "ANAMNESIS_LOG_LEVEL",
        "ANAMNESIS_OLLAMA_MODEL",
        "ANAMNESIS_OPENAI_API_KEY",
        "ANAMNESIS_OPENAI_MODEL",
        "ANAMNESIS_RECALL_TOKENS",
        "ANAMNESIS_RECALL_TOP_K",
        "ANAMNESIS_RECALL_WAIT",
        "ANAMNESIS_REDACT_ENTROPY",
        "ANAMNESIS_REEMBED_CHECKPOINT",
        # Ports and sizes
        "ANAMNESIS_GATEWAY_PORT",
        "ANAMNESIS_INGEST_PORT",
        "ANAMNESIS_MEMORY_LIMIT",
        "ANAMNESIS_MEMORY_PORT",
        "ANAMNESIS_MONGODB_PORT",
        "ANAMNESIS_WAIT",
        "MONGO_MEMORY",
    }
)


def check_shared(name: str) -> str:
    """The name, if a shared secret may set it. Raises BadName."""
    if check_name(name) not in SHARED:
        raise BadName(f"{name} is not a setting that a shared secret may set; set it in .env on this machine")
    return name
