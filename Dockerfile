# One pattern for all images. A target is a set of services that need the same packages:
#   light    ingest and gateway (the command says which)
#   memory   the memory service: torch, sentence-transformers and the packaged embedding model
# Packages come before code, so that changed code is copied, not installed. The mounts need BuildKit, which
# `docker compose build` always uses; where a machine has no reachable index, PYTHON_IMAGE brings its own pip.conf.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app/shared:/app \
    HOME=/tmp \
    ANAMNESIS_HOST=0.0.0.0 \
    ANAMNESIS_DATA_DIR=/data \
    ANAMNESIS_LOG_JSON=true
RUN groupadd --gid 10001 anamnesis \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin anamnesis \
    && install -d -o 10001 -g 10001 -m 700 /data
WORKDIR /app

FROM base AS light
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=bind,source=requirements-light.lock,target=/tmp/requirements.lock \
    pip install --no-deps --require-hashes --root-user-action=ignore -r /tmp/requirements.lock
# The gateway runs a `claude` elsewhere through SSH where it is told to; no other image has a client. After the packages,
# so that these are a layer that the images share all the same.
ARG WITH_SSH=
RUN if [ -n "$WITH_SSH" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends openssh-client && rm -rf /var/lib/apt/lists/*; \
    fi
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/ingest services/ingest
COPY services/gateway services/gateway
RUN python -m compileall -q shared services
USER 10001:10001
CMD ["python", "-m", "services.gateway"]

FROM base AS memory
# torch comes from an index of its own (empty: the index that pip has), so its hash is not in the lock. All that the
# CPU build needs is there; what other builds need besides (CUDA, ROCm) is not, and comes with them.
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    case $TORCH_INDEX_URL in */cpu) no_deps=--no-deps ;; esac; \
    pip install $no_deps --root-user-action=ignore ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=bind,source=requirements.lock,target=/tmp/requirements.lock \
    pip install --no-deps --require-hashes --root-user-action=ignore -r /tmp/requirements.lock
ENV OMP_NUM_THREADS=1
USER 10001:10001
RUN python -c "import torch, sentence_transformers"
USER root
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/memory services/memory
RUN python -m compileall -q shared services
USER 10001:10001
CMD ["python", "-m", "services.memory"]
