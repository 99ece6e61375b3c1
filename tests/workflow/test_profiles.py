"""The profiles: resources are those of the workflow, not of the machine that plans it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_kubernetes import FakeCluster, pod_environment, running

ROOT = Path(__file__).resolve().parents[2]
GPU_RULES = re.findall(
    r'^    "(\w+)": .*"gpu"', (ROOT / "workflow/rules/stages.smk").read_text(), re.M
)
PRETRAINED = "runs/smoke/pretrain/pretrain-xmem_tiny-s0/weights.safetensors"
COPIED = "runs/smoke/predictions/first_mask-shapes_smoke_val.zip"
LATER = "runs/smoke/predictions/pretrained-xmem_tiny-s0-shapes_smoke_val.zip"

# Two machines as Python sees them. The first is a login node of one core; the second has 64 cores
# and eight GPUs.
MACHINE = """
import multiprocessing, os, sys
import torch
cores, gpus = {cores}, {gpus}
os.cpu_count = multiprocessing.cpu_count = lambda: cores
os.sched_getaffinity = lambda process: set(range(cores))
torch.cuda.is_available = lambda: gpus > 0
torch.cuda.device_count = lambda: gpus
os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(gpus)))
from snakemake.cli import main
sys.argv[0] = "snakemake"
main()
"""


def profile(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    return content


def test_each_slurm_profile_says_where_every_gpu_rule_goes() -> None:
    assert len(GPU_RULES) == 7
    assert set(profile("slurm")["set-resources"]) == set(GPU_RULES)
    cpu = profile("slurm-cpu")["set-resources"]
    assert cpu == {rule: {"gpu": 0} for rule in GPU_RULES}


def test_profiles_of_clusters_limit_nothing_by_this_machine() -> None:
    for name in ("slurm", "slurm-cpu", "kubernetes"):
        assert not {"cores", "resources", "set-threads"} & set(profile(name)), name


def planned(text: str) -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    """Return (threads, resources) of each job of a dry run by (rule, wildcards).

    Snakemake prints resources in any order.
    """
    found = {}
    for block in re.split(r"^(?=rule )", text, flags=re.M):
        fields = dict(re.findall(r"^    (wildcards|threads|resources): (.*)$", block, re.M))
        if rule := re.match(r"rule (\w+):", block):
            name = (rule[1], fields.get("wildcards", ""))
            assert name not in found
            found[name] = (fields.get("threads", "1"), frozenset(fields["resources"].split(", ")))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_login_node_plans_what_a_gpu_node_plans(bare_workspace: Any, name: str) -> None:
    pytest.importorskip(f"snakemake_executor_plugin_{name}", reason=f"needs noisyvos[{name}]")
    plans = []
    for cores, gpus in ((1, 0), (64, 8)):
        done = bare_workspace.run(
            *(sys.executable, "-c", MACHINE.format(cores=cores, gpus=gpus)),
            *("--workflow-profile", f"profiles/{name}", "--directory", str(bare_workspace.root)),
            *("--config", "preset=lite", "-n", "--forceall"),
            *("--cores", "999"),  # a dry run shows one thread for all without it
        )
        plans.append(planned(done.stdout))
    login, node = plans
    assert login.keys() == node.keys()
    assert login == node
    trained = {wants for (rule, _), wants in login.items() if rule == "train"}
    assert len(login) > 500
    assert {threads for (rule, _), (threads, _) in login.items() if rule == "synth"} == {"8"}
    assert all("gpu=1" in resources for _, resources in trained)


def test_what_one_machine_leaves_out_is_seen() -> None:
    text = "rule a:\n    wildcards: key=x\n    threads: {}\n    resources: tmpdir=t, gpu=1\n\n"
    assert planned(text.format(4)) == {("a", "key=x"): ("4", frozenset({"tmpdir=t", "gpu=1"}))}
    assert planned(text.format(4)) != planned(text.format(1))


@pytest.fixture
def kubernetes(
    bare_workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:  # yields the cluster
    pytest.importorskip("snakemake_executor_plugin_kubernetes", reason="needs noisyvos[kubernetes]")
    with running(tmp_path, pod_environment(bare_workspace.path)) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


def in_pods(workspace: Any, *arguments: str, check: bool = True) -> Any:
    """Run Snakemake with the Kubernetes profile, whose volume is the folder of the copy."""
    return workspace.run(
        *("snakemake", "--workflow-profile", "profiles/kubernetes"),
        *("--directory", str(workspace.root), "--seconds-between-status-checks", "1"),
        *("--noisyvos-kubernetes-persistent-volumes", f"noisyvos:{workspace.root}"),
        *("--config", "retries=0", *arguments),
        check=check,
    )


@pytest.mark.slow
def test_kubernetes_runs_jobs_from_a_shared_volume(
    bare_workspace: Any, kubernetes: FakeCluster
) -> None:
    root = bare_workspace.root
    in_pods(bare_workspace, "--", PRETRAINED)
    assert (root / PRETRAINED).is_file()
    assert kubernetes.refused == []
    *plain, gpu = kubernetes.containers()
    assert len(plain) == 4  # generate, convert, synth, start
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["resources"]["limits"]["memory"] == "4000M"
    for container in [*plain, gpu]:
        assert container["image"] == profile("kubernetes")["container-image"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["noisyvos"] == str(root)
    assert not any("nvidia.com/gpu" in each["resources"]["requests"] for each in plain)


@pytest.mark.slow
def test_a_failed_pod_does_not_end_the_run(bare_workspace: Any, kubernetes: FakeCluster) -> None:
    """With the plug-in alone the log of the pod cannot be read, and that ends the run."""
    script = bare_workspace.root.parent / "tools" / "noisyvos"
    whole = script.read_text()
    broken = 'import sys\nif "--baseline" in sys.argv: sys.exit("noisyvos: no memory is left")\n'
    script.write_text(whole.replace("\n", f"\n{broken}", 1))
    try:
        done = in_pods(bare_workspace, "--", COPIED, LATER, check=False)
    finally:
        script.write_text(whole)
    assert done.returncode == 1
    assert "FAILED baseline@first_mask-shapes_smoke_val" in done.stderr
    assert "noisyvos: no memory is left" in done.stderr
    assert (bare_workspace.root / LATER).is_file()


def test_a_folder_outside_the_volume_is_refused(
    bare_workspace: Any, kubernetes: FakeCluster
) -> None:
    done = bare_workspace.run(
        *("snakemake", "--workflow-profile", "profiles/kubernetes"),
        *("--directory", str(bare_workspace.root), "--", COPIED),
        check=False,
    )
    assert done.returncode == 1
    assert "is on no volume" in done.stderr
    assert kubernetes.jobs == []
