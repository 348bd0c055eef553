"""Keys that begin alike: a range of the order that both stores keep them in, that of their characters' numbers."""


def end_of(prefix: str) -> str | None:
    """The first key behind all that begin with `prefix`; none where no key is."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    last = ord(kept[-1])
    after = 0xE000 if last == 0xD7FF else last + 1  # past the surrogates, which are no characters
    return kept[:-1] + chr(after)
