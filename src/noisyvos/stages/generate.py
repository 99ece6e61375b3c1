"""Stage `generate`: make the files of a generated source from its seed and list them."""

from pathlib import Path

from noisyvos.errors import UserError
from noisyvos.io.atomic import output_directory, write_json
from noisyvos.raw.base import GeneratedSource, load_source, take_inventory


def run(source: str, *, out: Path, inventory: Path, params: Path, workers: int = 1) -> None:
    """Write the files of `source` to the folder `out`, and their list to `inventory`.

    `out` is replaced only when everything is made.

    UserError if `source` is not a generated one or `out` is a link to somebody's own files.
    """
    found = load_source(source, params)
    if not isinstance(found, GeneratedSource):
        raise UserError(
            f"Source {source!r} is put in place by hand. "
            f"Run `noisyvos download --source {source}` to see what it wants."
        )
    if Path(out).is_symlink():
        raise UserError(
            f"{out}: this is a link, so its files are not replaced. "
            "Remove the link or give another --out."
        )
    with output_directory(out, "generate", inputs=(inventory,)) as folder:
        made = found.generate(folder, workers)
        paths = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        entries = take_inventory(folder, paths)
    write_json(inventory, entries)
    size = sum(entry["size"] for entry in entries)
    print(f"{source}: {made}; {len(entries)} files, {size / 1e6:.1f} MB in {out}")
