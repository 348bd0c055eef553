"""Contracts of state: nothing is taken that could not be given back."""

import pytest
from pydantic import ValidationError

from anamnesis.contracts.state import Documents


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"a": [{"b": "x\udfff"}]}])
def test_lone_surrogates_are_refused(value: dict[str, object]) -> None:
    """A document whose text is no Unicode is refused when it comes, not when it is read."""
    with pytest.raises(ValidationError, match="surrogates"):
        Documents.model_validate({"documents": {"key": value}})


def test_other_text_is_kept() -> None:
    """Any text that can be stored passes unchanged."""
    value = {"a": "東京 \x00 \n", "b": [1, 2.5, None, True]}
    assert Documents.model_validate({"documents": {"key": value}}).documents == {"key": value}
