"""Names that become paths stay below their folder."""

import pytest

from noisyvos.errors import UserError
from noisyvos.io.names import plain_name, problem

OUTSIDE = ["../evil", "a/../../b", "/etc", "..", "a\\..\\..\\b", "C:\\x", "~root"]
NO_NAMES = ["", ".", "a/./b", "a\0b", "a\nb", "x" * 256, 3, None, ["a"]]


@pytest.mark.parametrize("name", ["bear", "a/b", "P01_07 frame", "été", "a..b", ".hidden", "x.jpg"])
def test_plain_names_pass(name: str) -> None:
    assert plain_name(name, "file") == name


@pytest.mark.parametrize("name", OUTSIDE + NO_NAMES)
def test_others_are_refused_in_one_sentence(name: object) -> None:
    assert problem(name)
    with pytest.raises(UserError, match=r"^meta\.json: the video name .* Correct it there\.$"):
        plain_name(name, "meta.json", "video name")
