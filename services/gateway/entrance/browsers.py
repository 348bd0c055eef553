"""What a browser calls itself, in words that its owner knows it by in the list of keys."""

_FAMILIES = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
"""The first that is found counts: most browsers also claim to be those below them."""


def name(agent: str) -> str:
    """`browser on Firefox, Linux`, of the header `User-Agent`; only words of ours, never what was sent."""
    family = next((known for sign, known in _FAMILIES if sign in agent), "an unknown program")
    system = next((known for sign, known in _SYSTEMS if sign in agent), None)
    return f"browser on {family}" + (f", {system}" if system is not None else "")
