"""lwIP as a far end: what is missing for it is told in one message."""

import pytest

from twlab.errors import CapabilityError
from twlab.stacks import lwip


def test_without_a_compiler_there_is_one_message(tmp_path, monkeypatch):
    """The message names what is missing, and the remedy the packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CapabilityError) as caught:
        lwip.compiled(tmp_path / "program")
    assert caught.value.slug == "no-lwip"
    assert "there is no C compiler" in str(caught.value)
    assert "liblwip-dev" in caught.value.remedy


def test_without_the_library_there_is_one_message(tmp_path, monkeypatch):
    """The compiler's first complaint is passed on."""
    broken = tmp_path / "broken.c"
    broken.write_text("#include <lwip/not-there.h>\n")
    monkeypatch.setattr(lwip, "SOURCE", broken)
    with pytest.raises(CapabilityError, match=r"not-there\.h"):
        lwip.compiled(tmp_path / "program")
