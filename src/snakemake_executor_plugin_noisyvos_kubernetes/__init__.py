"""Snakemake's Kubernetes plug-in for pods that share a volume: `--executor noisyvos-kubernetes`.

The plug-in of the name `kubernetes` declares that there is no shared file system. Snakemake then
demands a storage provider and takes all paths as names in it. Commands of this workflow name plain
paths, so they need a volume instead. All else is done by that plug-in.

Snakemake imports every package of this name when it starts. Without the other plug-in this one
is empty, and says so when it is asked for.
"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

try:
    import snakemake_executor_plugin_kubernetes as kubernetes_plugin
except ImportError:
    common_settings = CommonSettings(
        non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False
    )

    class Executor(RemoteExecutor):
        """Says that the Kubernetes plug-in is not installed."""

        def __post_init__(self) -> None:
            raise WorkflowError('Kubernetes needs: pip install "noisyvos[kubernetes]".')

        def run_job(self, job: Any) -> None:
            """Run nothing."""

        async def check_active_jobs(self, active_jobs: Any) -> Any:
            """Yield nothing."""
            for job in active_jobs:
                yield job

        def cancel_jobs(self, active_jobs: Any) -> None:
            """Cancel nothing."""

else:
    common_settings = replace(
        kubernetes_plugin.common_settings,
        implies_no_shared_fs=False,
        job_deploy_sources=False,  # the Snakefile is on the volume
        pass_default_storage_provider_args=False,
        auto_deploy_default_storage_provider=False,
        spawned_jobs_assume_shared_fs=True,
    )
    ExecutorSettings = kubernetes_plugin.ExecutorSettings

    class Executor(kubernetes_plugin.Executor):  # type: ignore[no-redef]
        """The Kubernetes executor, whose pods work in a folder of a shared volume."""

        def __post_init__(self) -> None:
            folder = Path.cwd()
            volumes = self.workflow.executor_settings.persistent_volumes
            if not any(folder.is_relative_to(volume.path) for volume in volumes):
                raise WorkflowError(
                    f"{folder} is on no volume of `noisyvos-kubernetes-persistent-volumes`, so "
                    "pods would not see it. Start Snakemake in the copy of the repository that is "
                    "on the volume, under the path that pods have it at."
                )
            super().__post_init__()
            read = self.kubeapi.read_namespaced_pod_log

            def read_log(**where: Any) -> Any:
                # pods are never restarted, so there is no log of a previous container
                return read(**where | {"previous": False})

            self.kubeapi.read_namespaced_pod_log = read_log

        def get_job_exec_prefix(self, job: Any) -> str:
            """Return the command that goes to the workflow's folder, where PYTHONPATH=src holds."""
            return f"cd {shlex.quote(str(Path.cwd()))}"
