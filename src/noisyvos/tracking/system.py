"""How busy the machine was during a training: processor, memory and GPUs.

The names are those of MLflow's system metrics, so its UI shows them on their page. They are
sampled here, once for each row of the curve, because they go to the journal too: MLflow's monitor
writes to the server only, and waits for it.
"""

import shutil
import subprocess
import sys
import time
from typing import Any

_GPU_SECONDS = 10.0  # nvidia-smi takes up to a second, so it is asked at most this often
_GPU_LIMIT = 5.0  # seconds for one answer of nvidia-smi
_QUERY = "uuid,utilization.gpu,memory.used,memory.total,power.draw"
_GPU_NAMES = (
    "utilization_percentage",
    "memory_usage_megabytes",
    "memory_usage_percentage",
    "power_usage_watts",
)
_MEGA = 1e6
_MEBI = 2**20


class Sampler:
    """Samples the machine; processor use is the mean since the last sample."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._next_gpu = 0.0
        psutil.cpu_percent()  # the first answer has no time to refer to
        self._process.cpu_percent()

    def take(self) -> dict[str, float]:
        """Return the state of the machine and of this process by metric name."""
        import psutil

        memory = psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGA,
            "system_memory_usage_percentage": memory.percent,
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_megabytes": self._process.memory_info().rss / _MEGA,
        }
        if time.monotonic() >= self._next_gpu:
            self._next_gpu = time.monotonic() + _GPU_SECONDS
            found |= gpu_use(_used_gpus())
        return {f"system/{name}": float(value) for name, value in found.items()}


def _used_gpus() -> list[str]:
    """Return the UUIDs of the GPUs that this process can use; empty before it uses any."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    count = torch.cuda.device_count()
    return [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(count)]


def gpu_use(uuids: list[str]) -> dict[str, float]:
    """Return use, memory (MB and percent) and power (W) of these GPUs, as nvidia-smi says.

    GPUs are numbered as this process numbers them. What nvidia-smi does not know is left out.
    """
    if not uuids or shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_GPU_LIMIT
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, float] = {}
    for line in listed.splitlines():
        uuid, *texts = [text.strip() for text in line.split(",")]
        number = next((i for i, own in enumerate(uuids) if own and uuid.endswith(own)), None)
        if number is None or len(texts) != len(_GPU_NAMES):
            continue
        busy, used, total, power = (_number(text) for text in texts)
        share = 100 * used / total if used is not None and total else None
        used = used * _MEBI / _MEGA if used is not None else None
        for name, value in zip(_GPU_NAMES, (busy, used, share, power), strict=True):
            if value is not None:
                found[f"gpu_{number}_{name}"] = value
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None
