#!/bin/bash
# Measure this project on a GPU with the machine's own Python: bash benchmarks/gpu.sh [FOLDER] [options of gpu.py]
# The page and its JSON go to FOLDER, by default docs/. Nothing is fetched. Packages that this Python
# lacks may lie as wheels in .whl/: see benchmarks/gpu-wheels.txt, which also says how to get them.
set -eu
cd "$(dirname "$0")/.."
out=${1:-docs}
[ $# -gt 0 ] && shift
mkdir -p "$out"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if compgen -G '.whl/*.whl' > /dev/null; then
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
  export PYTHONPATH="$PYTHONPATH:$site"
fi
python3 - <<'PYTHON'
import importlib.util
import sys

wanted = ["torch", "torchvision", "numpy", "scipy", "cv2", "PIL", "pandas", "matplotlib", "pydantic", "yaml", "jinja2",
          "typer", "rich", "tqdm", "pycocotools", "filelock", "tenacity", "safetensors", "psutil", "pytest"]
missing = [name for name in wanted if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"This Python lacks {', '.join(missing)}. benchmarks/gpu-wheels.txt says how to bring wheels.")
PYTHON
exec timeout 570 python3 benchmarks/gpu.py --out "$out/performance-gpu.md" "$@"
