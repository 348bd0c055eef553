"""What is known of keys for a while: no longer than the key lasts, and not past a revocation."""

import asyncio
from datetime import timedelta

from pydantic import SecretStr

from anamnesis.contracts.base import now
from anamnesis.contracts.keys import Identity, Scope
from anamnesis.kit.auth import ServiceKey


class Holder:
    """Answers with one identity, when it is let go on."""

    def __init__(self, identity: Identity | None) -> None:
        self.identity = identity
        self.asked = 0
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def identify(self, hash: str) -> Identity | None:
        self.asked += 1
        self.began.set()
        answer = self.identity
        await self.go_on.wait()
        return answer


def _key(lasts: float | None = None) -> Identity:
    until = now() + timedelta(seconds=lasts) if lasts is not None else None
    return Identity(key_id="k", name="one", scope=Scope.READ, expires_at=until)


async def test_an_answer_is_not_kept_longer_than_the_key_lasts() -> None:
    """A key that ends while its answer is kept opens nothing from then on, whatever is remembered."""
    holder = Holder(_key(lasts=2.0))
    keys = ServiceKey(SecretStr("anm_service-key-of-tests"), holder, ttl=3_600)
    assert await keys.identify("hash") is not None
    await asyncio.sleep(2.1)
    assert await keys.identify("hash") is None


async def test_forgotten_answers_are_asked_for_again() -> None:
    """After a revocation nothing that was known counts."""
    holder = Holder(_key())
    keys = ServiceKey(None, holder, ttl=3_600)
    for _ in range(3):
        assert await keys.identify("hash") is not None
    assert holder.asked == 1
    holder.identity = None
    keys.forget()
    assert await keys.identify("hash") is None


async def test_an_answer_on_its_way_is_not_kept_past_a_revocation() -> None:
    """A look-up that began before a revocation and ends after it is good for its own request alone."""
    holder = Holder(_key())
    keys = ServiceKey(None, holder, ttl=3_600)
    holder.go_on.clear()
    asking = asyncio.create_task(keys.identify("hash"))
    await asyncio.wait_for(holder.began.wait(), 10)
    keys.forget()
    holder.go_on.set()
    await asking
    holder.identity = None
    assert await keys.identify("hash") is None
