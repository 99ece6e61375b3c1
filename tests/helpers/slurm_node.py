"""A SLURM of one node in a folder: munged, slurmctld and slurmd, with ports and keys of its own.

The node claims more CPUs and memory than the machine has, and GPUs that are links to /dev/null, so
that the scheduler places jobs as on a real node. The machine's own SLURM is neither used nor
changed.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")
SECONDS = 30.0  # until a daemon answers
SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket,cred_expire={requeue_seconds}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=10
KillWait=1
MinJobAge=300
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}{gres} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


class CannotStart(Exception):
    """SLURM is not installed, or may not run here."""


@dataclass
class SlurmNode:
    """A running SLURM."""

    base: Path
    host: str
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to talk to it: `bin` has an srun that knows the configuration."""
        path = os.pathsep.join((str(self.base / "bin"), SBIN))
        return {"SLURM_CONF": str(self.base / "slurm.conf"), "PATH": path}

    def ask(self, *command: str) -> str:
        """Return the output of a command of SLURM; CalledProcessError if it fails."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Return what `scontrol show job` says of every job, in the order of submission."""
        lines = self.ask("scontrol", "show", "job", "--oneliner").splitlines()
        found = [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in lines
            if line.startswith("JobId=")
        ]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def jobs_of(self, rule: str, key: str) -> list[dict[str, str]]:
        """Return the jobs of one job of the workflow: several if it was submitted again."""
        comment = f"rule_{rule}_wildcards_{key}"
        return [job for job in self.jobs() if job.get("Comment") == comment]

    def start(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground."""
        with (self.base / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [name, *arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_slurmd(self) -> None:
        """Start the node's daemon, also again after `crash`."""
        self.start("slurmd", "-D", "-N", self.host)

    def wait(self, answers: Callable[[], bool], name: str) -> None:
        """Wait until a daemon answers; CannotStart with the end of its output if it does not."""
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends and self.daemons[name].poll() is None:
            try:
                if answers():
                    return
            except (subprocess.SubprocessError, OSError):
                pass
            time.sleep(0.1)
        said = (self.base / f"{name}.out").read_text(errors="replace").splitlines()
        raise CannotStart(f"{name} does not start: {' / '.join(said[-3:])}")

    def crash(self) -> list[str]:
        """Kill the node as a power cut would: its daemon, the steps, and all that they started.

        Return the names of the killed processes.
        """
        slurmd = psutil.Process(self.daemons["slurmd"].pid)
        victims = [each for each in psutil.process_iter() if self._is_step(each)]
        for step in list(victims):
            victims += [each for each in step.children(recursive=True) if each not in victims]
        names = [each.name() for each in (slurmd, *victims)]
        # the daemon first, and the others at once, so that nobody is left to report a failed step
        slurmd.kill()
        self.daemons["slurmd"].wait()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.send_signal(number)
        psutil.wait_procs(victims, timeout=5)
        return names

    def stop(self) -> None:
        """End all jobs and daemons."""
        if "slurmctld" in self.daemons:
            subprocess.run(
                ["scancel", "--full", "--user", str(os.getuid())],
                env={**os.environ, **self.environment},
                capture_output=True,
                check=False,
                timeout=SECONDS,
            )
        if "slurmd" in self.daemons and self.daemons["slurmd"].poll() is None:
            self.crash()
        for name in ("slurmctld", "munged"):
            if name in self.daemons:
                self.daemons[name].send_signal(signal.SIGTERM)
                try:
                    self.daemons[name].wait(10)
                except subprocess.TimeoutExpired:
                    self.daemons[name].kill()

    def _is_step(self, process: psutil.Process) -> bool:
        """Whether a process is a slurmstepd of this node: it listens in the node's folder."""
        try:
            return process.name() == "slurmstepd" and any(
                str(each.laddr).startswith(str(self.base))
                for each in process.net_connections(kind="unix")
            )
        except psutil.Error:
            return False


def missing_programs() -> list[str]:
    """Return the programs of SLURM and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SBIN) is None]


@contextmanager
def running(
    *, cpus: int = 8, memory: int = 64_000, gpus: int = 4, requeue_seconds: int = 5
) -> Iterator[SlurmNode]:
    """Yield a running SLURM of one node with partitions `cpu` and `gpu`; end it with the block.

    requeue_seconds: how long a job that was requeued waits before it starts again (SLURM: 120).
    CannotStart if SLURM is not installed or a daemon does not come up.
    """
    if absent := missing_programs():
        raise CannotStart(f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)")
    base = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: sockets have at most 108 letters
    node = SlurmNode(base, socket.gethostname().partition(".")[0])
    try:
        _configure(node, cpus, memory, gpus, requeue_seconds)
        names = ("socket", "pid-file", "log-file", "seed-file", "key-file")
        files = [f"--{name}={base}/munge.{name.partition('-')[0]}" for name in names]
        node.start("munged", "--foreground", "--force", *files)
        node.wait(lambda: (base / "munge.socket").exists(), "munged")
        node.start("slurmctld", "-D")
        node.wait(lambda: "UP" in node.ask("scontrol", "ping"), "slurmctld")
        node.start_slurmd()
        node.wait(lambda: "idle" in node.ask("sinfo", "--noheader", "--format=%T"), "slurmd")
        yield node
    finally:
        node.stop()
        shutil.rmtree(base, ignore_errors=True)


def _configure(node: SlurmNode, cpus: int, memory: int, gpus: int, requeue_seconds: int) -> None:
    import pwd

    base = node.base
    base.chmod(0o755)
    (base / "munge.key").write_bytes(os.urandom(128))
    (base / "munge.key").chmod(0o600)
    for name in ("state", "spool"):
        (base / name).mkdir()
    for number in range(gpus):
        (base / f"gpu{number}").symlink_to("/dev/null")  # a device, which SLURM insists on
    if gpus:
        (base / "gres.conf").write_text(
            "".join(f"Name=gpu File={base}/gpu{number}\n" for number in range(gpus))
        )
    # the plug-in's job step drops SLURM_CONF, and without it srun asks for /etc/slurm/slurm.conf
    (base / "bin").mkdir()
    srun = base / "bin" / "srun"
    real = shutil.which("srun", path=SBIN)
    srun.write_text(f'#!/bin/sh\nexport SLURM_CONF="{base}/slurm.conf"\nexec {real} "$@"\n')
    srun.chmod(0o755)
    text = CONFIG.format(
        host=node.host,
        ports=_free_ports(2),
        user=pwd.getpwuid(os.getuid()).pw_name,
        base=base,
        cpus=cpus,
        memory=memory,
        gres=f" Gres=gpu:{gpus}" if gpus else "",
        requeue_seconds=requeue_seconds,
    )
    (base / "slurm.conf").write_text(text)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
