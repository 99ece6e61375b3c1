"""Mutations of files by kind, and of the options of a command line, from a random stream.

`mutate_file` changes one file and says how; `mutate_words` changes one word of a command line.
"""

import copy
import io
import json
import os
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    0.5,
    255,
    10**9,
    -(10**9),
    10**30,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../evil",
    "/evil",
    "a/b",
    "..",
    ".",
    "\u0000",
    "\n",
    "é\ud800",
    "x" * 5000,
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    [None],
    "00000",
    "1e999",
)
WORDS = (
    *("", " ", "-1", "0", "1", "3", "1000000000", "1" * 40, "nan", "inf", "1e308", "0.5", "true"),
    *(
        "..",
        ".",
        "out/../x",
        "../x",
        "out",
        "a/b/c",
        "x" * 300,
        "\x01",
        "é",
        "-",
        "--",
        "[",
        "none",
    ),
    *("raw", "params", "converted/videos", "noisy.zip", "weights.safetensors", "mask.png"),
    *("movie.mp4", "split.txt", "nowhere", "fifo", "loop", "socket/x", "noisy.zip/x", "clips"),
)
PAGE = b"<!DOCTYPE html><html><body>Log in</body></html>"


def _bytes(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    """Return changed bytes of any file."""
    how = stream.choice(("cut", "empty", "flip", "page", "noise", "double", "insert", "zeros"))
    place = stream.randrange(len(data)) if data else 0
    if how == "cut":
        return data[:place], f"cut at {place}"
    if how == "empty":
        return b"", how
    if how == "flip":
        changed = bytearray(data)
        for _ in range(stream.choice((1, 1, 4, 64))):
            if changed:
                changed[stream.randrange(len(changed))] = stream.randrange(256)
        return bytes(changed), how
    if how == "page":
        return PAGE, how
    if how == "noise":
        return stream.randbytes(stream.choice((1, 20, 4000))), how
    if how == "double":
        return data + data, how
    if how == "insert":
        odd = stream.choice(
            (b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\xff\xfe", b"\n\n", b'"', b",")
        )
        return data[:place] + odd + data[place:], f"insert {odd!r} at {place}"
    return b"\0" * len(data), how


def _place(path: Path, stream: random.Random) -> str:
    """Replace a file by something that is no file, or is not there."""
    how = stream.choice(("gone", "folder", "fifo", "broken link", "loop", "full folder", "zero"))
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "full folder":
        path.mkdir()
        (path / "precious.txt").write_text("precious")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "broken link":
        path.symlink_to("nowhere")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "zero":
        path.symlink_to("/dev/zero")
    return how


def _nodes(value: Any, above: tuple = ()) -> list[tuple]:
    found = [above]
    if isinstance(value, dict):
        for key in value:
            found += _nodes(value[key], (*above, key))
    elif isinstance(value, list):
        for index, part in enumerate(value[:50]):
            found += _nodes(part, (*above, index))
    return found


def _tree(value: Any, stream: random.Random) -> tuple[Any, str]:
    """Return a changed copy of a tree of dicts and lists."""
    value = copy.deepcopy(value)
    way = stream.choice(_nodes(value))
    odd = copy.deepcopy(stream.choice(ODD))
    if not way:
        return odd, f"all is {str(odd)[:30]!r}"
    inner = value
    for key in way[:-1]:
        inner = inner[key]
    last = way[-1]
    where = ".".join(map(str, way))[:60]
    how = stream.choice(("value", "value", "value", "gone", "renamed", "deep", "added", "more"))
    if how == "gone":
        del inner[last]
    elif how == "renamed" and isinstance(inner, dict):
        inner[stream.choice(["../../evil", "", "x", "1", "\u0000", 7])] = inner.pop(last)
    elif how == "deep":
        deep: Any = []
        for _ in range(stream.choice((30, 500))):
            deep = [deep] if stream.random() < 0.5 else {"a": deep}
        inner[last] = deep
    elif how == "added" and isinstance(inner, dict):
        inner[stream.choice(["extra", "../../evil", "kind", "size"])] = odd
    elif how == "more" and isinstance(inner[last], list) and inner[last]:
        inner[last] = inner[last] * stream.choice((2, 400))
    else:
        how = f"value {str(odd)[:30]!r}"
        inner[last] = odd
    return value, f"{where}: {how}"


def _json(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    value, how = _tree(json.loads(data), stream)
    return json.dumps(value, skipkeys=True).encode("utf-8", "surrogatepass"), how


_YAML_TEXTS = (
    "70: {kind: clean}\n",
    "~: {kind: clean}\n",
    "2020-01-01: {}\n",
    "a: {kind: [1]}\n",
    "a: &a [*a]\n",
    "[" * 5000,
    "a: {b: " * 600,
    "x: !!python/object/apply:os.system ['touch evil']\n",
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")),
    "a: 1e400\n",
    "a: .nan\n",
    "? [a, b]\n: c\n",
    "<<: 3\n",
    "\t- x\n",
    "--- a\n--- b\n",
    "a: 0x" + "f" * 5000 + "\n",
    "a: " + "9" * 5000 + "\n",
    "a: 1" + ":1" * 3000 + "\n",
    "# \xe9\n",
)


def _yaml(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    if stream.random() < 0.3:
        text = stream.choice(_YAML_TEXTS)
        return data + b"\n" + text.encode("latin1"), f"added {text[:30]!r}"
    if stream.random() < 0.1 and b"\n" in data:
        line = stream.choice([each for each in data.splitlines() if each.strip()])
        return data + b"\n" + line + b"\n", "a line twice"
    value, how = _tree(yaml.safe_load(data), stream)
    return yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass"), how


def _lines(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    """Return changed text with fields."""
    lines = data.decode().split("\n")
    row = stream.randrange(len(lines))
    fields = lines[row].split(",")
    how = stream.choice(("field", "field", "row gone", "row twice", "column", "quote", "all rows"))
    odd = str(stream.choice((*ODD, -7, 7, "nan", "inf", "-inf", "1;2"))).replace("\ud800", "")
    if how == "field":
        fields[stream.randrange(len(fields))] = odd
        lines[row] = ",".join(fields)
        how = f"row {row} has {odd[:30]!r}"
    elif how == "row gone":
        del lines[row]
    elif how == "row twice":
        lines.insert(row, lines[row])
    elif how == "column":
        lines[row] += ",1"
    elif how == "quote":
        lines[row] = '"' + lines[row]
    else:
        lines = lines[:1] + lines[1:] * 400
    return "\n".join(lines).encode("utf-8", "surrogatepass"), how


def _header(data: bytes, stream: random.Random) -> bytes:
    """Return a PNG with another header, whose sum is right."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    sizes = ((0, height), (30000, 30000), (2**31 - 1, 1), (width, height * 2), (100_000, 10_000))
    width, height = stream.choice(sizes)
    depth, kind = stream.choice(((depth, kind), (16, 0), (1, 3), (8, 2), (8, 6), (3, 3), (8, 9)))
    chunk = b"IHDR" + struct.pack(">IIBB", width, height, depth, kind) + data[26:29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def _picture(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    png = data.startswith(b"\x89PNG")
    if png and stream.random() < 0.25:
        return _header(data, stream), "header"
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        how = stream.choice(
            ("smaller", "1 pixel", "values", "RGB", "RGBA", "I;16", "1", "LA", "other format", "F")
        )
        changed: Image.Image = image
        if how == "smaller":
            changed = image.resize((max(1, image.width - 7), image.height))
        elif how == "1 pixel":
            changed = image.resize((1, 1))
        elif how == "values":
            value = stream.choice((0, 1, 7, 254, 255))
            changed = Image.fromarray(np.full((image.height, image.width), value, np.uint8))
            how = f"all is {value}"
        elif how == "I;16":
            changed = Image.fromarray(
                np.full((image.height, image.width), stream.choice((1, 70, 900)), np.uint16)
            )
        elif how == "F":
            changed = image.convert("L").convert("I")
        elif how != "other format":
            changed = image.convert("RGB" if how in ("RGB",) else how)
        buffer = io.BytesIO()
        kinds = ("PNG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PPM")
        kind = stream.choice(kinds) if how == "other format" else "PNG" if png else "JPEG"
        try:
            changed.save(buffer, kind)
        except (OSError, KeyError):
            changed.convert("RGB").save(buffer, kind)
    return buffer.getvalue(), f"{how} {kind}"


_INNER: dict[str, Callable[[bytes, random.Random], tuple[bytes, str]]] = {}


def _zip(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    how = stream.choice(
        ("name", "inner", "inner", "gone", "twice", "link", "bomb", "stray", "deep", "locked")
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = stream.randrange(len(entries)) if entries else 0
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, (name, content) in enumerate(entries):
            if index == place and how == "name":
                name = stream.choice(
                    ("../../evil.png", "/evil.png", "x", "a/b/c/d.png", "..\\evil.png", "one/.png",
                     "one/\x01.png", "C:/evil.png", "one/" + "x" * 300 + ".png", "one//0.png", "")
                )  # fmt: skip
            if index == place and how == "inner":
                content = mutate_bytes(Path(name), content, stream)[0]
            if index == place and how == "gone":
                continue
            info = zipfile.ZipInfo(name)
            if index == place and how == "link":
                info.external_attr = 0o120777 << 16
                content = b"/etc/passwd"
            if index == place and how == "locked":
                info.flag_bits |= 1
            archive.writestr(info, content)
            if index == place and how == "twice":
                archive.writestr(info, content)
        if how == "bomb":
            archive.writestr("one/00009.png", b"\0" * 80_000_000, zipfile.ZIP_DEFLATED)
        elif how == "stray":
            archive.writestr(
                stream.choice(("__MACOSX/._x.png", "readme.md", "one/", ".x/y.png")), "x"
            )
        elif how == "deep":
            archive.writestr("d/" * 400 + "x.png", "x")
    return buffer.getvalue(), how


def _tar(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    how = stream.choice(("link", "hard link", "device", "name", "deep", "twice", "long", "huge"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("data/x")
        member.size = 1
        if how in ("link", "hard link"):
            member.type = tarfile.SYMTYPE if how == "link" else tarfile.LNKTYPE
            member.linkname = "../../../evil"
        elif how == "device":
            member.type = tarfile.CHRTYPE
        elif how == "name":
            member.name = stream.choice(
                ("../../evil", "/evil", "..", "a\\..\\..\\b", "C:/x", "\x01")
            )
        elif how == "deep":
            member.name = "d/" * stream.choice((400, 1800)) + "x"
        elif how == "long":
            member.name = "x" * 300
        for _ in range(1 + (how == "twice")):
            archive.addfile(member, io.BytesIO(b"x") if member.isreg() else None)
    raw = buffer.getvalue()
    if how == "huge":
        member.size = 10**13
        raw = member.tobuf()
    return raw, how


def _weights(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    """Return changed safetensors."""
    from safetensors.torch import load
    from safetensors.torch import save as dump

    if stream.random() < 0.4:
        length = struct.unpack("<Q", data[:8])[0]
        head, how = _json(data[8 : 8 + length], stream)
        return struct.pack("<Q", len(head)) + head + data[8 + length :], f"header {how}"
    state = load(data)
    name = stream.choice(sorted(state))
    how = stream.choice(("nan", "inf", "dtype", "shape", "gone", "int", "length"))
    if how == "length":
        return struct.pack("<Q", stream.choice((0, 2**63, 10**6))) + data[8:], how
    values = state.pop(name)
    if how in ("nan", "inf"):
        state[name] = torch.full_like(values, float(how)) if values.is_floating_point() else values
    elif how == "dtype":
        state[name] = values.to(torch.float16)
    elif how == "int":
        state[name] = values.to(torch.int8)
    elif how == "shape":
        state[name] = values.reshape(-1)[:1].clone()
    return dump(state), f"{name}: {how}"


class _Touch:
    def __reduce__(self) -> tuple:
        return os.system, ("touch evil",)


def _pickle(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    content: Any = torch.load(io.BytesIO(data), weights_only=True)
    how = stream.choice(
        ("cycle", "list cycle", "code", "code inside", "nan", "numbers", "none", "old form",
         "pickle", "deep", "sparse", "complex", "view", "strings", "expanded")
    )  # fmt: skip
    state = content["state_dict"]
    name = stream.choice(sorted(state))
    buffer = io.BytesIO()
    old = how == "old form"
    if how == "cycle":
        content["state_dict"] = content
    elif how == "list cycle":
        content["state_dict"] = loop = [content]
        loop.append(loop)
    elif how == "code":
        content = _Touch()
    elif how == "code inside":
        content[stream.choice(("epoch", "state_dict", "args"))] = _Touch()
    elif how == "nan":
        state[name] = state[name] * float("nan")
    elif how == "numbers":
        content["state_dict"] = {key: 1.0 for key in state}
    elif how == "none":
        content = None
    elif how == "pickle":
        return pickle.dumps(stream.choice((_Touch(), {"state_dict": 1}, [1] * 5))), how
    elif how == "deep":
        for _ in range(600):
            content = {"state_dict": content}
    elif how == "sparse":
        state[name] = state[name].to_sparse()
    elif how == "complex":
        state[name] = torch.complex(state[name].float(), state[name].float())
    elif how == "view":
        state[name] = torch.zeros(1).expand(state[name].shape)
    elif how == "strings":
        state[stream.choice((7, "", "../evil", "x" * 9000))] = state.pop(name)
    elif how == "expanded":
        state[name] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue(), how


def _npz(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = stream.choice(sorted(arrays))
    how = stream.choice(("nan", "object", "shape", "gone", "float64", "huge", "empty", "strings"))
    values = arrays.pop(name)
    if how == "nan":
        arrays[name] = np.full(values.shape, np.nan)
    elif how == "object":
        arrays[name] = np.array([_Touch(), None], object)
    elif how == "shape":
        arrays[name] = values.reshape(-1)[:1]
    elif how == "float64":
        arrays[name] = values.astype(np.float64) * 1e300
    elif how == "huge":
        arrays[name] = np.broadcast_to(np.zeros(1, values.dtype), (3, 2000, 2000))
    elif how == "empty":
        arrays[name] = np.zeros((0, 3), values.dtype)
    elif how == "strings":
        arrays[name] = np.array(["x", "y"])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue(), f"{name}: {how}"


def _movie(data: bytes, stream: random.Random) -> tuple[bytes, str]:
    texts = (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "#EXTM3U\n#EXTINF:1,\nraw/davis/JPEGImages/480p/one/00000.jpg\n",
        "ffconcat version 1.0\nfile 'mask.png'\nfile http://127.0.0.1:9/x\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>',
        "rtsp://127.0.0.1:9/x\n",
    )
    text = stream.choice(texts)
    return text.encode(), f"playlist {text[:12]!r}"


_INNER |= {
    ".json": _json,
    ".yaml": _yaml,
    ".csv": _lines,
    ".txt": _lines,
    ".png": _picture,
    ".jpg": _picture,
    ".bmp": _picture,
    ".zip": _zip,
    ".gz": _tar,
    ".safetensors": _weights,
    ".pth": _pickle,
    ".npz": _npz,
    ".mp4": _movie,
}


def mutate_bytes(name: Path, data: bytes, stream: random.Random) -> tuple[bytes, str]:
    """Return changed content of a file of this name, and how it was changed."""
    own = _INNER.get(name.suffix)
    if own is not None and stream.random() < 0.65:
        with suppress(Exception):  # what was mutated before may be no file of its kind any more
            return own(data, stream)
    return _bytes(data, stream)


def mutate_file(path: Path, stream: random.Random) -> str:
    """Change a file, or replace it by something else, and return how."""
    if path.is_symlink():
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    if stream.random() < 0.1:
        return _place(path, stream)
    data, how = mutate_bytes(path, path.read_bytes(), stream)
    path.write_bytes(data)
    return how


def mutate_words(words: list[str], stream: random.Random) -> tuple[list[str], str]:
    """Return a command line with one value changed, one option left out or one given twice."""
    words = list(words)
    options = [place for place, word in enumerate(words) if word.startswith("--")]
    if not options:
        return [*words, stream.choice(WORDS)], "one more word"
    place = stream.choice(options)
    valued = place + 1 < len(words) and not words[place + 1].startswith("--")
    how = stream.choice(("value", "value", "value", "value", "gone", "twice", "number"))
    if how == "value" and valued:
        others = [word for word in words[place + 2 :: 1] if not word.startswith("--")]
        odd = stream.choice((*WORDS, *others, *others))
        how = f"{words[place]} is {odd[:40]!r}"
        words[place + 1] = odd
    elif how == "gone":
        how = f"{words[place]} is left out"
        del words[place : place + 1 + valued]
    elif how == "number":
        option = stream.choice(
            ("--seed", "--workers", "--threads", "--processes", "--sequences", "--size", "--budget",
             "--mem-every", "--update-rate", "--videos-at-once", "--memory", "--steps")
        )  # fmt: skip
        odd = stream.choice(
            ("-1", "0", "1000000000", "1" * 40, "x", "nan", "0.5", "", "top_k=0", "top_k=-1",
             "mem_every=99999999999999", "top_k=[", "x=1")
        )  # fmt: skip
        words += [option, odd]
        how = f"{option} {odd}"
    else:
        words += words[place : place + 1 + valued]
        how = f"{words[place]} twice"
    return words, how


def copy_world(world: Path, target: Path) -> None:
    """Copy a world, and put into the copy what is no usual file: a FIFO, a link to itself."""
    shutil.copytree(world, target, symlinks=True)
    sources = target / "params" / "sources.yaml"
    sources.write_text(sources.read_text().replace(str(world), str(target)))
    os.mkfifo(target / "fifo")
    (target / "loop").symlink_to("loop")
    (target / "socket").mkdir()
