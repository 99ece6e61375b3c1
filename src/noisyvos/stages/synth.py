"""Stage `synth`: renders three-frame clips from still images and stores them in shards."""

from pathlib import Path

from noisyvos.io.atomic import output_directory, write_json
from noisyvos.parallel import ordered_map
from noisyvos.params.entries import read_entry
from noisyvos.synth.clip import encode_clip, frame_suffix
from noisyvos.synth.recipe import RECIPES, ClipSeries
from noisyvos.synth.shards import shard_name, write_shard
from noisyvos.synth.statistics import ClipFacts, clip_facts, summarise

# clips per task, small so that even few clips spread over all processes
_CHUNK = 10

_Encoded = tuple[bytes, bytes, ClipFacts]
_series: list[ClipSeries] = []  # the series of this process, set once at its start


def run(images: Path, *, recipe: str, out: Path, seed: int, params: Path, workers: int = 1) -> None:
    """Write the clips of a recipe in synth.yaml, made from the image dataset `images`, to `out`.

    Clip i depends only on the images, the recipe and (seed, i), not on the number of workers.
    """
    kind, settings = read_entry(params, "synth", recipe, RECIPES)
    series: ClipSeries = kind.build(images, settings, seed)
    clips, shard = settings.clips, settings.shard  # type: ignore[attr-defined]
    chunks = [range(low, min(low + _CHUNK, clips)) for low in range(0, clips, _CHUNK)]
    facts: list[ClipFacts] = []
    names = ("clips-*.zip",)
    with output_directory(out, "synth", inputs=(images,), kinds=("clips",), names=names) as folder:
        done: list[_Encoded] = []
        for encoded in ordered_map(_make, chunks, workers, out.name, _use, (series,)):
            done += encoded
            facts += [fact for _, _, fact in encoded]
            while len(done) >= shard or (done and len(facts) == clips):
                _write(folder, len(facts) - len(done), done[:shard], shard, series)
                del done[:shard]
        statistics = summarise(facts)
        recorded = settings.model_dump(mode="json")
        write_json(
            folder / "meta.json",
            {"kind": "clips", "seed": seed, **recorded, "statistics": statistics},
        )
    mean = sum(len(fact.areas) for fact in facts) / clips
    print(f"{out.name}: {clips} clips of {series.crop} pixels, {mean:.2f} objects a clip, in {out}")


def _write(folder: Path, first: int, clips: list[_Encoded], shard: int, series: ClipSeries) -> None:
    files = ((frames, masks) for frames, masks, _ in clips)
    write_shard(folder / shard_name(first // shard), first, files, frame_suffix(series.crop))


def _use(series: ClipSeries) -> None:
    _series[:] = [series]


def _make(chunk: range) -> list[_Encoded]:
    made = (_series[0].clip(index) for index in chunk)
    return [(*encode_clip(clip), clip_facts(clip)) for clip in made]
