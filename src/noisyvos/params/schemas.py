"""JSON schemas of the parameter files, so that editors complete names and mark mistakes.

The pydantic models are the only definition; the files in workflow/schemas are generated from them.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from noisyvos.errors import UserError
from noisyvos.io.atomic import holds, write_if_other
from noisyvos.params.presets import Preset
from noisyvos.pipeline.catalog import FAMILIES, Family
from noisyvos.registry import Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = {"pattern": "^[a-z0-9_]+$"}


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by file name: one for each parameter file, and one for presets."""
    made = {family.file: _family(family) for family in FAMILIES.values()}
    preset = Preset.model_json_schema()
    preset["properties"]["blocks"]["propertyNames"] = NAMES
    return made | {"preset": {"$schema": DIALECT, **preset, "title": "A preset"}}


def write(folder: Path) -> None:
    """Write all schemas; files that are equal already are left alone."""
    for name, text in _texts().items():
        write_if_other(folder / name, text)


def require_fresh(folder: Path) -> None:
    """Raise UserError if a schema in `folder` is not what the settings classes give now."""
    stale = [name for name, text in _texts().items() if not holds(folder / name, text)]
    if stale:
        raise UserError(
            f"{folder}: not up to date: {', '.join(stale)}. Write them again: `noisyvos schema`."
        )


def _texts() -> dict[str, str]:
    return {
        f"{name}.json": json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for name, schema in schemas().items()
    }


def _family(family: Family) -> dict[str, Any]:
    target = family.load()
    head = {"$schema": DIALECT, "title": f"params/{family.file}.yaml", "type": "object"}
    if not isinstance(target, Registry):
        entry = target.model_json_schema(ref_template="#/$defs/{model}")
        definitions = entry.pop("$defs", {})
        entry.pop("title", None)
        return head | {
            "propertyNames": NAMES,
            "additionalProperties": {"$ref": "#/$defs/entry"},
            "$defs": definitions | {"entry": entry},
        }
    kinds, definitions = _kinds(target)
    generic: dict[str, Any] = {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"enum": list(kinds), "description": f"A registered {target.family}."}
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/kind_{kind}"},
            }
            for kind in kinds
        ],
    }
    named = {
        kind: {
            "if": {"required": ["kind"]},
            "then": {"$ref": "#/$defs/entry"},
            "else": {"$ref": f"#/$defs/kind_{kind}"},
        }
        for kind in kinds
    }
    return head | {
        "propertyNames": NAMES,
        "properties": named,
        "additionalProperties": {"$ref": "#/$defs/entry"},
        "$defs": definitions
        | {f"kind_{kind}": schema for kind, schema in kinds.items()}
        | {"entry": generic},
    }


def _kinds(registry: Registry) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the schema of each kind's settings with `kind` among them, and what they share."""
    models: list[type[BaseModel]] = list(dict.fromkeys(item.settings for item in registry))
    places, combined = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = combined.get("$defs", {})
    kinds: dict[str, dict[str, Any]] = {}
    for item in registry:
        name = places[(item.settings, "validation")]["$ref"].rpartition("/")[2]
        schema = dict(definitions[name])
        schema["properties"] = {"kind": {"const": item.name}} | schema.get("properties", {})
        schema["title"] = item.name
        kinds[item.name] = schema
    own = {places[(model, "validation")]["$ref"].rpartition("/")[2] for model in models}
    used = json.dumps(list(kinds.values())) + json.dumps(
        [schema for name, schema in definitions.items() if name not in own]
    )
    shared = {
        name: schema
        for name, schema in definitions.items()
        if name not in own or f'"#/$defs/{name}"' in used
    }
    return kinds, shared
