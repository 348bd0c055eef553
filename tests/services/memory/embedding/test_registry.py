import fcntl
import os
import sys
import time
from pathlib import Path
from subprocess import run

import pytest

from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.kit.errors import BadRequest, Conflict, NotFound, Unavailable
from services.memory.embedding.registry import DEFAULT_MODEL, Registry

SEED = "BAAI/bge-large-en-v1.5"


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def _files(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name in ("modules.json", "config.json", "model.safetensors"):
        (directory / name).write_text("{}")
    return directory


def _own(path: Path | str | None, name: str = "mine") -> EmbeddingModel:
    return EmbeddingModel(
        name=name, dimension=8, max_tokens=64, licence="mine", path=str(path) if path is not None else None
    )


def test_default_is_found_in_its_package(tmp_path: Path) -> None:
    """The shipped default lies in its Python package and needs no network."""
    model = Registry(tmp_path).get(DEFAULT_MODEL)
    assert model.available
    assert model.path is not None
    assert (Path(model.path) / "model.safetensors").is_file()
    assert (model.dimension, model.max_tokens, model.licence) == (384, 256, "Apache-2.0")


def test_the_seeds_model_is_one_name_away(tmp_path: Path) -> None:
    """The seed's model is known with its dimension, length, licence and prefix, though its files are not here."""
    model = Registry(tmp_path).get(SEED)
    assert (model.dimension, model.max_tokens, model.licence) == (1024, 512, "MIT")
    assert model.query_prefix == "Represent this sentence for searching relevant passages: "
    assert model.passage_prefix == ""
    assert not model.available


def test_nothing_heavy_is_imported() -> None:
    """Neither the registry nor the pool brings torch, transformers or the hub's client into the process."""
    heavy = ("torch", "transformers", "sentence_transformers", "huggingface_hub")
    code = (
        "import sys, pathlib; from services.memory.embedding import pool, registry;"
        "registry.Registry(pathlib.Path('/nowhere')).known();"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_models_directory_comes_first(tmp_path: Path) -> None:
    """Files put into the models directory under the model's name are found, a slash written as two dashes."""
    put = _files(tmp_path / "BAAI--bge-large-en-v1.5")
    assert Registry(tmp_path).locate(SEED) == put


def test_hub_cache_is_used(tmp_path: Path) -> None:
    """What the hub's own cache holds already is not fetched again."""
    cache = tmp_path / "hub-home" / "hub" / "models--BAAI--bge-large-en-v1.5"
    revision = _files(cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    assert Registry(tmp_path / "models").locate(SEED) == revision


def test_unknown_name(tmp_path: Path) -> None:
    """A name that nobody registered is not found."""
    with pytest.raises(NotFound, match="no embedding model is called nonsense"):
        Registry(tmp_path).get("nonsense")


def test_own_model_is_registered_and_kept(tmp_path: Path) -> None:
    """A user's model is known by its path, and again when it is given back at the next start."""
    registry = Registry(tmp_path)
    made = registry.register(_own(_files(tmp_path / "mine")))
    assert made.available
    assert Registry(tmp_path, own=registry.own).get("mine") == made


@pytest.mark.parametrize(
    ("missing", "reason"), [("modules.json", "no modules.json"), ("model.safetensors", "no weights as safetensors")]
)
def test_unfit_directory(tmp_path: Path, missing: str, reason: str) -> None:
    """A directory that cannot be embedded with is refused with the reason."""
    directory = _files(tmp_path / "mine")
    (directory / missing).unlink()
    with pytest.raises(BadRequest, match=reason):
        Registry(tmp_path).register(_own(directory))


def test_relative_path_and_no_path(tmp_path: Path) -> None:
    """A user's model needs an absolute path."""
    for path in ("models/mine", None):
        with pytest.raises(BadRequest, match="path"):
            Registry(tmp_path).register(_own(path))


def test_known_names_are_taken(tmp_path: Path) -> None:
    """A user's model cannot pass for a known one: their vectors would mix under one name."""
    with pytest.raises(Conflict, match="give yours another name"):
        Registry(tmp_path).register(_own(_files(tmp_path / "mine"), DEFAULT_MODEL))


async def test_downloads_can_be_forbidden(tmp_path: Path) -> None:
    """Where downloads are off, a missing model says at once what to do."""
    with pytest.raises(Unavailable, match=r"put its files .* into .*BAAI--bge-large-en-v1\.5"):
        await Registry(tmp_path, download=False).obtain(SEED)


async def test_a_dead_hub_fails_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that cannot be reached fails within seconds, names what to do, and leaves nothing half-fetched."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"could not be downloaded \(.* from 127\.0\.0\.1:9\)"):
        await Registry(tmp_path).obtain(SEED)
    assert time.monotonic() - began < 30
    assert os.listdir(tmp_path) == []


def test_only_downloads_that_nobody_needs_are_swept(tmp_path: Path) -> None:
    """What is left of downloads goes, but for a wanted model's, and for one that another process is at work on."""
    for name in ("abandoned", "BAAI--bge-large-en-v1.5", "BAAI--bge-small-en-v1.5", "BAAI--bge-base-en-v1.5"):
        _files(tmp_path / f".fetch-{name}")
    installed = _files(tmp_path / "BAAI--bge-base-en-v1.5")
    busy = os.open(tmp_path / ".fetch-BAAI--bge-small-en-v1.5", os.O_RDONLY)
    fcntl.flock(busy, fcntl.LOCK_EX)
    Registry(tmp_path).sweep({SEED, "mine"})
    os.close(busy)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".fetch-BAAI--bge-large-en-v1.5", ".fetch-BAAI--bge-small-en-v1.5", installed.name}


async def test_two_processes_do_not_fetch_into_each_others_files(tmp_path: Path) -> None:
    """While another process is fetching a model, that is told at once."""
    scratch = _files(tmp_path / ".fetch-BAAI--bge-large-en-v1.5")
    busy = os.open(scratch, os.O_RDONLY)
    fcntl.flock(busy, fcntl.LOCK_EX)
    with pytest.raises(Unavailable, match="another process is fetching"):
        await Registry(tmp_path).obtain(SEED)
    os.close(busy)
    assert scratch.is_dir()


async def test_present_models_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is here is had without the hub."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (await Registry(tmp_path).obtain(DEFAULT_MODEL)).name == "model"
