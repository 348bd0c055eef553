from pathlib import Path

import pytest

from anamnesis.contracts.embedding import EmbeddingModel
from services.memory.embedding import room


@pytest.mark.parametrize(
    ("said", "bound"), [("1000000\n", 1_000_000), ("max\n", None), ("9223372036854771712\n", None), (None, None)]
)
def test_a_containers_bound_counts(
    said: str | None, bound: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a container may have is its bound, or what the machine has where there is none, or a larger one."""
    limit = tmp_path / "memory.max"
    if said is not None:
        limit.write_text(said)
    monkeypatch.setattr(room, "_LIMITS", ())
    machine = room.allowed()
    monkeypatch.setattr(room, "_LIMITS", (limit,))
    assert room.allowed() == (bound or machine)


def test_a_worker_takes_its_weights_and_more(shipped: EmbeddingModel) -> None:
    """The default model's worker is reckoned at what it was measured to take, and a larger model's at more."""
    assert shipped.path is not None
    assert 450 << 20 < room.of_a_worker(Path(shipped.path)) < 550 << 20
