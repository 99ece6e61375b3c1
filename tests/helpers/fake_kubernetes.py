"""A stand-in for a Kubernetes API: it takes the jobs of Snakemake's plug-in and runs them here.

A pod is a process with an empty working folder. A persistent volume is a folder of this machine
under its own path. What a cluster refuses is refused: a GPU that is requested without a limit, and
the log of an earlier container of a pod that was never restarted.
"""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: fake
clusters: [{{name: fake, cluster: {{server: "{address}"}}}}]
users: [{{name: fake, user: {{token: none}}}}]
contexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]
"""


@dataclass
class FakeCluster:
    """The jobs that were submitted, and where their API is."""

    kubeconfig: Path
    environment: dict[str, str]  # of the pods' processes
    jobs: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def containers(self) -> list[dict[str, Any]]:
        """Return the container of each job."""
        return [job["spec"]["template"]["spec"]["containers"][0] for job in self.jobs]

    def submit(self, job: dict[str, Any]) -> str:
        """Run a job; return why it is refused, or nothing."""
        container = job["spec"]["template"]["spec"]["containers"][0]
        resources = container["resources"]
        for name, count in resources.get("requests", {}).items():
            if "/" in name and resources.get("limits", {}).get(name) != count:
                self.refused.append(f"{name}: must specify limits of extended resources")
                return self.refused[-1]
        self.jobs.append(job)
        name = job["metadata"]["name"]
        with (self.kubeconfig.parent / f"{name}.log").open("w") as log:
            self.running[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=tempfile.mkdtemp(prefix="pod-"),
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return ""

    def status(self, name: str) -> dict[str, int]:
        """Return the status of a job."""
        code = self.running[name].poll()
        return {"active": 1} if code is None else {"failed" if code else "succeeded": 1}

    def pod(self, name: str) -> dict[str, Any]:
        """Return the pod of a job."""
        code = self.running[name].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        facts = {"image": "", "imageID": "", "ready": code is None, "restartCount": 0}
        container = {"name": "snakemake", "state": state} | facts
        return {"metadata": {"name": name}, "status": {"containerStatuses": [container]}}

    def log(self, name: str) -> str:
        """Return what a pod said."""
        return (self.kubeconfig.parent / f"{name}.log").read_text()


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[FakeCluster]:
    """Yield a cluster whose kubeconfig is in `folder`; pods have `environment`."""
    cluster = FakeCluster(folder / "kubeconfig", environment)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, content: Any, code: int = 200) -> None:
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")

        def do_POST(self) -> None:
            body = self._body()
            if self.path.endswith("/jobs") and (said := cluster.submit(body)):
                self._answer({"kind": "Status", "message": said}, 422)
            else:
                self._answer(body, 201)

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            parts, asked = address.path.split("/"), parse_qs(address.query)
            if parts[-1] == "log":
                if "true" in map(str.lower, asked.get("previous", [])):
                    said = "previous terminated container not found"
                    self._answer({"kind": "Status", "message": said}, 400)
                else:
                    self._answer(cluster.log(parts[-2]))
            elif parts[-1] == "pods":
                name = asked["labelSelector"][0].removeprefix("job-name=")
                self._answer({"items": [cluster.pod(name)]})
            elif parts[-1] == "status":
                self._answer({"metadata": {"name": parts[-2]}, "status": cluster.status(parts[-2])})
            else:
                self._answer({"kind": "Status", "message": "not found"}, 404)

        def do_DELETE(self) -> None:
            self._body()
            self._answer({})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.kubeconfig.write_text(
        KUBECONFIG.format(address=f"http://127.0.0.1:{server.server_port}")
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        for process in cluster.running.values():
            process.kill()
        server.server_close()


def pod_environment(path: str) -> dict[str, str]:
    """Return the environment of an image whose programs are on `path`."""
    kept = ("HOME", "LANG", "TMPDIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return found | {"PATH": path, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
