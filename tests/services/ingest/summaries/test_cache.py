"""What a model wrote is kept for whoever has the exchange, and for nobody else."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from anamnesis.contracts.summaries import Summarising
from services.ingest.summaries.cache import Cache, Known, opened, seal
from tests.services.ingest.memory_service import remembering

OLLAMA = Summarising(backend="ollama", model="small")


@given(st.text(min_size=1, max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_only_the_exchange_opens_it(summary: str, raw: str, other: str) -> None:
    """Its own text gives the summary back, any other gives none, and broken entries are none."""
    summary = summary.encode("utf-8", "replace").decode()
    known = seal(summary, raw)
    assert opened(known, raw) == summary
    assert opened(known, other) == (summary if other == raw else None)
    assert opened(Known(sealed="&&", nonce="x"), raw) is None
    assert opened(Known(failed=2), raw) is None


async def test_entries_are_of_an_exchange_and_a_model(tmp_path: Path) -> None:
    """Another exchange, another model or another backend has none; nothing readable lies in the store."""
    async with remembering(tmp_path) as memory, memory.client() as client:
        cache = Cache(client)
        assert await cache.read(OLLAMA, []) == {}
        await cache.write(OLLAMA, {"raw one": seal("The secret plan.", "raw one"), "raw two": Known(failed=1)})
        found = await cache.read(OLLAMA, ["raw one", "raw two", "raw three"])
        assert {raw: opened(known, raw) for raw, known in found.items()} == {
            "raw one": "The secret plan.",
            "raw two": None,
        }
        assert found["raw two"].failed == 1
        for other in (Summarising(backend="ollama"), Summarising(backend="openai", model="small")):
            assert await cache.read(other, ["raw one"]) == {}
        documents = await memory.store.list("offsets", "summaries")
        assert "secret plan" not in str(documents)
        assert "raw one" not in str(documents)
