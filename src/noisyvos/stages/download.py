"""Stage `download`: fetch raw material, or check what a person put in place, and list it."""

from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.raw.base import ManualSource, load_source, take_inventory
from noisyvos.raw.fetch.obtain import Places
from noisyvos.raw.kinds.archives import ArchiveSource


def run(
    source: str,
    *,
    raw: Path,
    out: Path,
    params: Path,
    archives: Path | None = None,
    workers: int = 4,
    accept_licence: bool = False,
) -> None:
    """Fetch what is missing of `source` if a program may, and list its files below `raw` in `out`.

    Archives are fetched only with `accept_licence`, `workers` at a time, into `archives` (by
    default archives/<source> beside the folder of raw folders). Their sizes and sums are recorded
    in <out without suffix>.archives.json and checked from then on. For a generated source the
    function only prints a hint. UserError says what is missing, where it is from and how to go on.
    """
    raw, out = Path(raw), Path(out)
    found = load_source(source, params)
    if not isinstance(found, ManualSource):
        print(
            f"{source}: nothing to download, it is generated. "
            f"Run `noisyvos generate --source {source} --out {raw} --inventory {out}`."
        )
        return
    if raw.exists() and not raw.is_dir():
        raise UserError(f"{raw}: a folder is needed here, but this is a file.")
    if isinstance(found, ArchiveSource) and not raw.is_symlink():
        here = found.is_here(raw)
        if not here and not accept_licence:
            raise UserError(_offer(found, raw, out))
        # a killed command may have left something to remove even if all is there
        if not here or found.is_fetched(raw):
            places = Places(
                raw,
                archives or raw.absolute().parent.parent / "archives" / source,
                out.with_suffix(".archives.json"),
            )
            found.fetch(places, workers)
    missing = found.missing(raw)
    if missing:
        raise UserError(_message(found, raw, out, missing))
    entries = take_inventory(raw, found.files(raw))
    # what a command left that was killed while it wrote the list
    for leftover in out.parent.glob(f".{out.name}.*.tmp"):
        leftover.unlink()
    write_json(out, entries)
    print(
        f"{source}: {len(entries)} files, "
        f"{sum(entry['size'] for entry in entries) / 1e6:.1f} MB in {raw}"
    )


def _offer(source: ArchiveSource, raw: Path, out: Path) -> str:
    """Return what would be fetched and two ways to go on: accept, or link own files."""
    lines = [
        f"Source {source.name!r} is not in {raw}; it can be fetched if you accept its licence.",
        *source.offer(),
    ]
    lines += [
        "To accept it and fetch the files:",
        f"  {_command(source, raw, out)} --accept-licence",
    ]
    lines += [
        "If you have the files, link the folder that holds them and run the command again:",
        f"  ln -s /path/to/the/folder {raw}",
    ]
    return "\n".join(
        [*lines, "Wanted in that folder:", *(f"  {want}" for want in source.settings.wants)]
    )


def _message(source: ManualSource, raw: Path, out: Path, missing: list[str]) -> str:
    """Return the message on missing material: what is missing, what to do, how to go on."""
    if raw.is_symlink() and not raw.exists():
        head = f"{raw} is a link to {raw.readlink()}, which does not exist."
    elif not raw.is_dir():
        head = (
            f"Source {source.name!r} has to be put in place by hand, and {raw} does not exist yet."
        )
    else:
        head = "\n".join(
            [
                f"Source {source.name!r} is not complete in {raw}. Missing:",
                *(f"  {line}" for line in missing),
            ]
        )
    return f"{head}\n{source.instructions(raw)}\nThen go on with:\n  {_command(source, raw, out)}"


def _command(source: ManualSource, raw: Path, out: Path) -> str:
    return f"noisyvos download --source {source.name} --raw {raw} --out {out}"
