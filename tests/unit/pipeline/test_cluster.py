"""What a SLURM cluster is asked before the first job. The texts are those of SLURM 22.05."""

import pytest

from noisyvos.errors import UserError
from noisyvos.pipeline.cluster import (
    Ask,
    Node,
    read_config,
    read_nodes,
    refuse_added_profile,
    resource_faults,
    status_faults,
)

SINFO = """cpu|8|64000|infinite|(null)
gpu|32+|256000|2-00:00:00|gpu:a100:4(S:0-1),shard:8
debug|2|8000|30:00|gpu:1
"""
CONFIG = "AccountingStorageType   = accounting_storage/none\nMinJobAge               = 300 sec\n"
NODES = read_nodes(SINFO)
TRAIN = Ask("train", "gpu", 9, 24000, 2880, 1)


def test_nodes_are_read() -> None:
    assert NODES == [
        Node("cpu", 8, 64000, None, 0),
        Node("gpu", 32, 256000, 2880.0, 4),
        Node("debug", 2, 8000, 30.0, 1),
    ]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Ask("train", "a100", 1, 1, 1, 1), "no partition 'a100'.*: cpu, debug, gpu"),
        (Ask("train", "cpu", 1, 1, 1, 1), "asks for 1 GPU, and a node of partition 'cpu' has 0"),
        (Ask("train", "gpu", 1, 1, 1, 8), "asks for 8 GPUs, .* has 4"),
        (Ask("synth", "cpu", 16, 1, 1, 0), "asks for 16 CPUs, .* has 8.*set-threads: {synth: 8}"),
        (Ask("train", "gpu", 1, 300_000, 1, 1), "asks for 300000 MB, .* has 256000"),
        (Ask("train", "debug", 1, 1, 480, 1), "asks for 480 minutes, .* allows 30"),
    ],
)
def test_what_no_node_can_take_is_named(ask: Ask, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert not resource_faults([TRAIN, ask], NODES), " ".join(resource_faults([ask], NODES))


def test_what_fits_and_the_default_partition_pass() -> None:
    longest = Ask("download", "cpu", 4, 2000, 100_000, 0)
    assert resource_faults([TRAIN, longest, Ask("any", "", 999, 1, 1, 0)], NODES) == []


def test_a_cluster_without_accounts_is_asked_with_squeue() -> None:
    config = read_config(CONFIG)
    (fault,) = status_faults(config, "sacct", 40)
    assert "slurm-status-command: squeue" in fault
    assert status_faults(config, "squeue", 40) == []
    (fault,) = status_faults(config | {"MinJobAge": "30 sec"}, "squeue", 40)
    assert "forgets jobs after 30 seconds" in fault
    assert "status-checks: 10" in fault
    kept = config | {"AccountingStorageType": "accounting_storage/slurmdbd"}
    assert status_faults(kept, "sacct", 40) == []


@pytest.mark.parametrize("words", [["--profile", "profiles/slurm"], ["--profile=profiles/slurm/"]])
def test_a_profile_that_is_only_added_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="--workflow-profile profiles/slurm"):
        refuse_added_profile(["snakemake", *words])


def test_profiles_of_the_user_may_be_added() -> None:
    refuse_added_profile(["snakemake", "--profile", "mine", "--workflow-profile", "profiles/slurm"])
