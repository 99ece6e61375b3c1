"""A trace and a comparison as they appear on a terminal."""

from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_HASH = 12  # characters shown


def show_trace(found: dict[str, Any], console: Console) -> None:
    """Print the chain of one cell."""
    parts: list[RenderableType] = []
    for key, means in found["scores"].items():
        values = ", ".join(f"{name} {100 * value:.2f}" for name, value in means.items())
        parts.append(Text.assemble((values, "bold"), f"  {key}"))
    parts += [_steps(found["steps"]), *_settings(found)]
    title = f"{found['job']} · preset {found['preset']}"
    title += " · synthetic data" if found["synthetic"] else ""
    console.print(Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED))


def _steps(steps: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("step", no_wrap=True)
    table.add_column("output", overflow="fold", ratio=1)
    table.add_column("sha256", no_wrap=True)
    table.add_column("made", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for step in steps:
        first = True
        for output in step["outputs"]:
            table.add_row(
                step["stage"] if first else "",
                output["path"],
                Text(output.get("sha256", "missing")[:_HASH], style="dim"),
                step.get("made", "")[5:16] if first else "",
                _state(step) if first else "",
            )
            first = False
    return table


def _state(step: dict[str, Any]) -> Text:
    if step["changes"]:
        return Text(", ".join(sorted({each["kind"] for each in step["changes"]})), style="yellow")
    return Text("as made" + (", in DVC" if step["in_dvc"] else ""), style="green")


def _settings(found: dict[str, Any]) -> list[Text]:
    """Return the lines below the table: settings of each training, noise, raw files, origin."""
    lines = []
    for step in found["steps"]:
        training = step.get("training")
        if training:
            names = ", ".join(
                f"{family} {_entry(training[family])}"
                for family in ("model", "method", "schedule")
                if family in training
            )
            about = f"{names}, seed {training['seed']}, {training['device']}"
            lines.append(_line(step["stage"], f"{about}, torch {training.get('torch', '?')}"))
        if "noise" in step:
            noise = dict(step["noise"])
            settings = noise.pop("settings")
            achieved = ", ".join(f"{name} {value}" for name, value in noise.items())
            lines.append(_line("label noise", f"{achieved} {settings or ''}"))
        if "raw" in step:
            raw = step["raw"]
            lines.append(
                _line(
                    "raw files",
                    f"{step['key']}: {raw['files']} files, {raw['bytes']:,} bytes; hashes in "
                    f"{raw['inventory']} ({raw['inventory_sha256'][:_HASH]})",
                )
            )
    for commit in found["commits"] or [found["no_commit"]]:
        lines.append(_line("commit", commit))
    if "mlflow" in found:
        run = found["mlflow"]
        text = f"{run['run']} in {run['experiment']}, {run['server']}" if run else "not tracked"
        lines.append(_line("MLflow", text))
    for change in found["changes"]:
        lines.append(_line("changed", f"{change['job']}: {describe(change)}", "yellow"))
    return lines


def describe(change: dict[str, str]) -> str:
    """Return a change in words."""
    values = ""
    if "before" in change or "now" in change:
        values = f": {change.get('before', '')} → {change.get('now', '')}"
    return f"{change['kind']} {change['what']}{values}"


def _entry(settings: Any) -> str:
    if not isinstance(settings, dict):
        return str(settings)
    shown = {
        name: value
        for name, value in settings.items()
        if name not in ("name", "kind") and not isinstance(value, (dict, list))
    }
    few = ("iterations", "learning_rate", "batch", "preset", "parity")
    text = ", ".join(f"{name} {shown[name]}" for name in few if name in shown)
    return f"{settings.get('name', '')}" + (f" ({text})" if text else "")


def _line(name: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"{name:<12}", "bold"), (text, style))
