"""Programs that start without importing PyTorch, Snakemake or MLflow again.

A server imports the libraries once. Each program is a fork of it: it has its own process with the
caller's arguments, variables, folder and streams, and it imports this project's code itself. What
is tested is what the program does. How a program starts is tested elsewhere, with new Pythons.

`python warm.py SOCKET` is the server; it ends with the process whose pipe is its standard input.
"""

import atexit
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    *("cv2", "matplotlib.pyplot", "pandas", "pycocotools.mask", "scipy.ndimage", "scipy.stats"),
    *("torch", "torch.distributed", "torch.profiler", "torchvision.models"),
    *("torchvision.transforms.v2", "safetensors.torch", "pydantic", "typer", "rich.progress"),
    *("jinja2", "tenacity", "mlflow", "snakemake.cli", "dvc.cli", "dvc.repo", "dvc.commands.repro"),
)
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

# Asks the server for a fork, passes signals on to it, and ends as it does.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
asked = {{"program": {program!r}, "words": sys.argv, "folder": os.getcwd()}}
asked["variables"] = dict(os.environ)
data = json.dumps(asked).encode()
socket.send_fds(server, [len(data).to_bytes(4, "big")], [0, 1, 2])
server.sendall(data)
answers = server.makefile("r")
child = int(answers.readline())
for number in {forwarded}:
    signal.signal(number, lambda number, _: os.kill(child, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def write(path: Path, program: str) -> None:
    """Make the command `path`: it runs the Python text `program` in a fork of the server."""
    kept = path.with_name(f".{path.name}.program")
    kept.write_text(program)
    path.write_text(
        CLIENT.format(
            python=sys.executable,
            socket=_server(),
            program=str(kept),
            forwarded=[int(number) for number in FORWARDED],
        )
    )
    path.chmod(0o755)


@cache
def tools() -> str:
    """Return a folder with `snakemake`, `dvc`, and the real command line as `real-noisyvos`."""
    folder = Path(_server()).parent
    for name, module in (
        ("snakemake", "snakemake.cli"),
        ("dvc", "dvc.cli"),
        ("real-noisyvos", "noisyvos.cli"),
    ):
        write(folder / name, f"import sys\nfrom {module} import main\nsys.exit(main())\n")
    return str(folder)


@cache
def _server() -> str:
    """Return the socket of a running server, which ends with this process."""
    place = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DVC_NO_ANALYTICS": "1"}
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), place],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()

    atexit.register(end)
    return place


# ---- in the server


def _serve(place: str) -> dict[str, object]:
    """Fork for each client; return the request in the fork, never in the server."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = selectors.DefaultSelector()
    for source in (0, woken, listener):
        watched.register(source, selectors.EVENT_READ)
    clients: dict[int, socket.socket] = {}
    os.write(1, b"ready\n")
    while True:
        for key, _ in watched.select():
            if key.fileobj == 0:
                shutil.rmtree(Path(place).parent, ignore_errors=True)
                _end(clients)
            elif key.fileobj == woken:
                os.read(woken, 512)
                _tell(clients, watched)
            elif key.fileobj is listener:
                client, _address = listener.accept()
                asked, streams = _request(client)
                child = os.fork()
                if child:
                    for stream in streams:
                        os.close(stream)
                    with suppress(OSError):
                        client.sendall(f"{child}\n".encode())
                    clients[child] = client
                    watched.register(client, selectors.EVENT_READ, child)
                    continue
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGCHLD, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for stream, number in zip(streams, (0, 1, 2), strict=True):
                    os.dup2(stream, number)
                    os.close(stream)
                for each in (*clients.values(), client, listener):
                    each.close()
                watched.close()
                os.close(woken)
                os.close(wake)
                return asked
            elif key.data in clients:  # the client is gone: it was killed
                watched.unregister(key.fileobj)
                clients.pop(key.data).close()
                with suppress(ProcessLookupError):
                    os.kill(key.data, signal.SIGKILL)


def _request(client: socket.socket) -> tuple[dict[str, object], list[int]]:
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    left, data = int.from_bytes(head, "big"), b""
    while len(data) < left:
        data += client.recv(left - len(data))
    return json.loads(data), streams


def _tell(clients: dict[int, socket.socket], watched: selectors.BaseSelector) -> None:
    """Tell the clients whose programs have ended how they ended."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        client = clients.pop(child, None)
        if client is not None:
            watched.unregister(client)
            with suppress(OSError):
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            client.close()


def _end(clients: dict[int, socket.socket]) -> NoReturn:
    for child in clients:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    for child in clients:
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
    os._exit(0)


def _become(asked: dict[str, object]) -> types.ModuleType:
    """Make this process look as if Python had started with the program."""
    program, variables = str(asked["program"]), dict(asked["variables"])  # type: ignore[call-overload]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(str(asked["folder"]))
    sys.argv = list(asked["words"])  # type: ignore[call-overload]
    places = [place for place in variables.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:1] = [str(Path(sys.argv[0]).parent), *places]
    sys.dont_write_bytecode = bool(variables.get("PYTHONDONTWRITEBYTECODE"))
    made = types.ModuleType("__main__")
    made.__file__ = program
    sys.modules["__main__"] = made
    return made


def _import_libraries() -> None:
    import gc
    import importlib

    for name in LIBRARIES:
        with suppress(ImportError):  # an optional one
            importlib.import_module(name)
    assert not any(name.partition(".")[0] == "noisyvos" for name in sys.modules)
    gc.collect()
    gc.freeze()


def _run(program: types.ModuleType) -> int:
    """Run the program and return its exit code; as Python does it, but for taking objects apart.

    That would cost more than most programs: all libraries would be copied for it.
    """
    code = 0
    try:
        exec(compile(Path(str(program.__file__)).read_text(), sys.argv[0], "exec"), vars(program))
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    return code & 0xFF


if __name__ == "__main__":
    _import_libraries()
    os._exit(_run(_become(_serve(sys.argv[1]))))
