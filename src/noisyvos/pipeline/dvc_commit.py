"""`dvc commit --force` of many stages at once.

The command takes targets one by one and reads and writes the whole of dvc.lock for each, so that time grows with the square of the
number of cells; it also reads a parameter file anew for every stage that names it. Here the same calls are made on all
stages and dvc.lock is written once, at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from noisyvos.errors import UserError


def commit(names: set[str]) -> None:
    """Record the files of these stages, named as DVC does, in dvc.lock and DVC's cache; UserError where DVC refuses."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repo, lock_repo(repo), _parameters_read_once():
            stages = [stage for stage in repo.index.stages if stage.addressing in names]
            unknown = names - {stage.addressing for stage in stages}
            if unknown:
                raise UserError(
                    f"dvc.yaml has no stage {sorted(unknown)[0]!r}. Write the grid again with `noisyvos grid --preset NAME`."
                )
            for stage in stages:
                stage.save()
                stage.commit()
            for file in {stage.dvcfile.path: stage.dvcfile for stage in stages}.values():
                file.dump_stages(
                    [stage for stage in stages if stage.dvcfile.path == file.path],
                    update_pipeline=False,
                )
    except DvcException as error:
        raise UserError(f"DVC did not take the finished cells: {error}") from error


@contextmanager
def _parameters_read_once() -> Iterator[None]:
    """Let DVC parse each parameter file once; nothing changes the files meanwhile, since the repository is locked and no job runs."""
    from dvc.dependency import param

    read: Any = getattr(param, "load_path", None)
    if read is None:  # another release of DVC: the same result, more slowly
        yield
        return
    once = cache(lambda path, file_system: read(path, file_system))
    param.load_path = lambda path, file_system, **options: (
        read(path, file_system, **options) if options else once(path, file_system)
    )
    try:
        yield
    finally:
        param.load_path = read
