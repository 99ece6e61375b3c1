"""Stage `download`: fetch raw material, or check what a person puts in place, and list it; what is missing is told in full."""

from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.raw.base import ManualSource, load_source
from noisyvos.raw.fetch.plan import Places
from noisyvos.raw.inventory import take_inventory
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
    """Write the list of the files of `source` found below `raw` to `out`, after fetching them if a program may and must.

    Archives go to `archives` (by default archives/<source> beside the folder of raw folders), `workers` at a time, and only
    with `accept_licence`; their sizes and sums go to <out without suffix>.archives.json and are checked from then on. A
    generated source only gets a hint. UserError says what is missing, where it comes from and how to go on.
    """
    raw, out = Path(raw), Path(out)
    found = load_source(source, params)
    if not isinstance(found, ManualSource):
        print(
            f"{source}: nothing to download, it is generated. Run `noisyvos generate --source {source} --out {raw} --inventory {out}`."
        )
        return
    if raw.exists() and not raw.is_dir():
        raise UserError(f"{raw}: a folder is needed here, but this is a file.")
    if isinstance(found, ArchiveSource) and not raw.is_symlink():
        here = found.is_here(raw)
        if not here and not accept_licence:
            raise UserError(_offer(found, raw, out))
        if not here or found.is_fetched(
            raw
        ):  # also if all is there: a killed command may have left something to clear away
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
    for leftover in out.parent.glob(
        f".{out.name}.*.tmp"
    ):  # of a command that was killed while it wrote the list
        leftover.unlink()
    write_json(out, entries)
    print(
        f"{source}: {len(entries)} files, {sum(entry['size'] for entry in entries) / 1e6:.1f} MB in {raw}"
    )


def _offer(source: ArchiveSource, raw: Path, out: Path) -> str:
    """Return what fetching means and the two ways to go on: accept, or link what is already there."""
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
    """Return the whole message for missing material: what lacks, the instructions, the command to go on."""
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
