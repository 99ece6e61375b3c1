"""A change of code makes exactly the jobs stale that can reach it, in Snakemake and in DVC."""

from functools import cache
from typing import Any

import pytest
from engines import closure_of, edited, pipeline, stale_in_dvc, stale_in_snakemake

from noisyvos.pipeline import code_deps
from noisyvos.pipeline.code_deps import CODE_FILE, EXCLUDED, Code
from noisyvos.pipeline.dvc_yaml import CODE_STAGE, Pipeline
from noisyvos.pipeline.source_facts import Facts, package_facts, read_facts

pytestmark = pytest.mark.xdist_group("agreement")

TRAINED = 4  # training cells of preset `smoke`


def with_followers(current: Pipeline, stale: set[str]) -> set[str]:
    """Return stale jobs and all that depend on them."""
    maker = {out: job.name for job in current for out in job.outs}
    before = {
        job.name: {maker[path] for path in current.inputs(job) if path in maker} for job in current
    }
    found = set(stale)
    while more := {name for name, needs in before.items() if needs & found} - found:
        found |= more
    return found


def test_every_module_makes_stale_what_reaches_it(
    recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change the text of every module, one at a time; look at the values that the engines read."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    params, current = recorded.root / "params", pipeline(recorded)
    monkeypatch.setattr(code_deps, "read_family", cache(code_deps.read_family))  # no file changes
    with Repo(str(recorded.root)) as repo:
        reads = {
            stage.name: [
                name
                for dep in stage.deps
                if isinstance(dep, ParamsDependency) and dep.def_path == CODE_FILE
                for name in dep.params
            ]
            for stage in repo.index.stages
            if stage.name != CODE_STAGE
        }
    facts = package_facts(recorded.root / "src" / "noisyvos")
    closures = {
        job.name: closure_of(job, Code(facts, recorded.root / "src/noisyvos"), params)
        for job in current
    }
    assert all(closures.values())
    assert set(reads) == set(closures)

    def seen(changed: dict[str, Facts]) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Return what each job tracks in Snakemake, and what its stage reads in DVC."""
        table = Code(changed, recorded.root / "src/noisyvos").table(params)
        current._params[CODE_FILE] = table
        values = {
            name: [table[entry.split(".")[0]][entry.split(".")[1]] for entry in entries]
            for name, entries in reads.items()
        }
        return {job.name: current.tracked(job) for job in current}, values

    tracked, values = seen(facts)
    comment, code = "\n# a comment\n", "\n_CHANGED = 1\n"
    for path in sorted((recorded.root / "src" / "noisyvos").rglob("*.py")):
        parts = path.relative_to(recorded.root / "src").with_suffix("").parts
        package = parts[-1] == "__init__"
        module, text = ".".join(parts[:-1] if package else parts), path.read_text()
        assert read_facts(text + comment, module, package) == facts[module]
        changed = read_facts(text + code, module, package)
        now, then = seen({**facts, module: changed})
        wanted = {name for name, modules in closures.items() if module in modules}
        assert {name for name in now if now[name] != tracked[name]} == wanted, module
        assert {name for name in then if then[name] != values[name]} == wanted, module


SAMPLES = {
    "src/noisyvos/io/masks.py": TRAINED,
    "src/noisyvos/methods/kinds/smart.py": TRAINED // 2,
    "src/noisyvos/noise/kinds/boundary.py": TRAINED // 2,
    "src/noisyvos/report/tables.py": 0,
    "src/noisyvos/cli/runs.py": 0,
}


def check_edit(workspace: Any, path: str, text: str) -> set[str]:
    """Append `text` to a file, compare both engines with the closures, return the stale jobs."""
    file = workspace.root / path
    before = file.read_text()
    facts = package_facts(workspace.root / "src" / "noisyvos")
    code, current = Code(facts, workspace.root / "src/noisyvos"), pipeline(workspace)
    module = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    owners = {module} if path.endswith(".py") else {m for m in facts if _names(code, m, path)}
    direct = {
        job.name for job in current if owners & closure_of(job, code, workspace.root / "params")
    }
    with edited(workspace, (path, before, before + text)):
        stale = stale_in_dvc(workspace)
        assert stale == with_followers(current, direct)
        assert stale_in_snakemake(workspace) == stale
    return stale


def _names(code: Code, module: str, path: str) -> bool:
    return any(str(file).endswith(path) for file in code.data_files(module))


@pytest.mark.parametrize("path", SAMPLES)
def test_both_engines_follow_a_change_of_code(recorded: Any, path: str) -> None:
    stale = check_edit(recorded, path, "\n_CHANGED = 1\n")
    assert len([name for name in stale if name.startswith("train@")]) == SAMPLES[path]
    assert bool(stale) is ("cli" not in path)


def test_both_engines_follow_a_change_of_the_template(recorded: Any) -> None:
    path = "src/noisyvos/report/templates/report.html.j2"
    assert check_edit(recorded, path, "<!-- changed -->\n") == {"report"}


def test_code_that_cannot_change_a_result_runs_nothing(recorded: Any) -> None:
    texts = {}
    for name in EXCLUDED:
        path = recorded.root / "src" / name.replace(".", "/")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            texts[file] = file.read_text()
    try:
        for file, text in texts.items():
            file.write_text(text + "\n_CHANGED = 1\n")
        assert stale_in_dvc(recorded) == stale_in_snakemake(recorded) == set()
    finally:
        for file, text in texts.items():
            file.write_text(text)
