"""Stage `download`: check raw material that a person puts in place and list it, or say what is missing and where it goes."""

from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.io.atomic import write_json
from noisyvos.sources.base import ManualSource, load_source
from noisyvos.sources.inventory import take_inventory


def run(source: str, *, raw: Path, out: Path, params: Path) -> None:
    """Write the list of the files of `source` found below `raw` to `out`; a generated source only gets a hint.

    UserError says what is missing, where it comes from and how to go on.
    """
    raw = Path(raw)
    found = load_source(source, params)
    if not isinstance(found, ManualSource):
        print(f"{source}: nothing to download, it is generated. Run `noisyvos generate --source {source} --out {raw} --inventory {out}`.")
        return
    if raw.exists() and not raw.is_dir():
        raise UserError(f"{raw}: a folder is needed here, but this is a file.")
    missing = found.missing(raw)
    if missing:
        raise UserError(_message(found, raw, out, missing))
    entries = take_inventory(raw, found.files(raw))
    write_json(out, entries)
    print(f"{source}: {len(entries)} files, {sum(entry['size'] for entry in entries) / 1e6:.1f} MB in {raw}")


def _message(source: ManualSource, raw: Path, out: Path, missing: list[str]) -> str:
    """Return the whole message for missing material: what lacks, the instructions, the command to go on."""
    if raw.is_symlink() and not raw.exists():
        head = f"{raw} is a link to {raw.readlink()}, which does not exist."
    elif not raw.is_dir():
        head = f"Source {source.name!r} has to be put in place by hand, and {raw} does not exist yet."
    else:
        head = "\n".join([f"Source {source.name!r} is not complete in {raw}. Missing:", *(f"  {line}" for line in missing)])
    command = f"noisyvos download --source {source.name} --raw {raw} --out {out}"
    return f"{head}\n{source.instructions(raw)}\nThen go on with:\n  {command}"
