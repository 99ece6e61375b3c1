"""Stage `synth`: 3-frame clips from still images, in shards."""

from pathlib import Path

from noisyvos.io.atomic import atomic_directory, write_json
from noisyvos.parallel import ordered_map
from noisyvos.params.entries import read_entry
from noisyvos.synth.kinds.coco_clips import ClipSource
from noisyvos.synth.recipe import RECIPES
from noisyvos.synth.shards import encode_clip, frame_suffix, shard_name, write_shard
from noisyvos.synth.statistics import ClipFacts, clip_facts, summarise

_CHUNK = 10  # clips per task: small enough to share few clips among processes

_Encoded = tuple[bytes, bytes, ClipFacts]
_source: list[ClipSource] = []  # the source of this process, set once when the process starts


def run(images: Path, *, recipe: str, out: Path, seed: int, params: Path, workers: int = 1) -> None:
    """Write the clips of `recipe` of synth.yaml from the converted image dataset `images` into folder `out`.

    Clip i depends on the images, the recipe and (seed, i) alone, whatever the number of workers.
    """
    kind, settings = read_entry(params, "synth", recipe, RECIPES)
    source: ClipSource = kind.build(images, settings, seed)
    clips, shard = settings.clips, settings.shard  # type: ignore[attr-defined]
    chunks = [range(low, min(low + _CHUNK, clips)) for low in range(0, clips, _CHUNK)]
    facts: list[ClipFacts] = []
    with atomic_directory(out) as folder:
        done: list[_Encoded] = []
        for encoded in ordered_map(_make, chunks, workers, out.name, _use, (source,)):
            done += encoded
            facts += [fact for _, _, fact in encoded]
            while len(done) >= shard or (done and len(facts) == clips):
                _write(folder, len(facts) - len(done), done[:shard], shard, source)
                del done[:shard]
        statistics = summarise(facts)
        recorded = settings.model_dump(mode="json")
        write_json(
            folder / "meta.json",
            {"kind": "clips", "seed": seed, **recorded, "statistics": statistics},
        )
    mean = sum(len(fact.areas) for fact in facts) / clips
    print(
        f"{out.name}: {clips} clips of {source.settings.crop} pixels, {mean:.2f} objects a clip, in {out}"
    )


def _write(folder: Path, first: int, clips: list[_Encoded], shard: int, source: ClipSource) -> None:
    files = ((frames, masks) for frames, masks, _ in clips)
    write_shard(
        folder / shard_name(first // shard), first, files, frame_suffix(source.settings.crop)
    )


def _use(source: ClipSource) -> None:
    _source[:] = [source]


def _make(chunk: range) -> list[_Encoded]:
    made = (_source[0].clip(index) for index in chunk)
    return [(*encode_clip(clip), clip_facts(clip)) for clip in made]
