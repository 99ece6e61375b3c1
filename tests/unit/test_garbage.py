"""The search for cyclic garbage while a command starts."""

import gc

import pytest

from noisyvos.garbage import search_less, settle


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_command_searches_less_until_it_works() -> None:
    usual = gc.get_threshold()
    search_less()
    assert gc.get_threshold()[0] > usual[0]
    settle()
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() > 0


def test_the_choice_of_a_program_that_uses_the_library_stays() -> None:
    gc.set_threshold(5000, 20, 20)
    settle()
    assert gc.get_threshold() == (5000, 20, 20)
    assert gc.get_freeze_count() == 0
