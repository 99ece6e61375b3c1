"""Python's search for cyclic garbage while a command starts.

Importing PyTorch makes a million objects that stay. Looking through them again and again takes a
sixth of the import.
"""

import gc

_AT_WORK = gc.get_threshold()  # its default differs between versions of Python
_AT_START = (10_000, 10, 10)


def search_less() -> None:
    """Let garbage pile up for longer, until `settle`."""
    gc.set_threshold(*_AT_START)


def settle() -> None:
    """End what `search_less` began: search as usual, and never through what is there by now.

    Garbage of a training or of a video may hold large tensors, so it is not left lying.
    """
    if gc.get_threshold() == _AT_START:
        gc.freeze()
        gc.set_threshold(*_AT_WORK)
