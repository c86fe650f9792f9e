"""Output of `starvsr download-weights`: the list, the download plan and the verification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starvsr.specs import EMBEDDED, SPECS, Component, fetched_components
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.folder import component_file, is_file

if TYPE_CHECKING:
    from starvsr.zoo.planning import InstallPlan
    from starvsr.zoo.sources import Located
    from starvsr.zoo.verify import Verified

UNKNOWN = "?"


def list_json(components: Sequence[Component], folder: Path) -> dict[str, Any]:
    """Models and components, and which are installed; sizes in bytes, null if unknown."""
    return {
        "folder": str(folder),
        "models": [
            {
                "name": name,
                "summary": spec.summary,
                "licence": spec.licence,
                "embedded": name in EMBEDDED,
                "components": list(fetched_components(name)),
                "installed": all(
                    is_file(component_file(c, folder)) for c in fetched_components(name)
                ),
            }
            for name, spec in SPECS.items()
        ],
        "components": [
            {
                "name": component.name,
                "kind": component.kind,
                "summary": component.summary,
                "licence": component.licence,
                "gated": component.gated,
                "sources": [f"{s.repository}/{s.path}" for s in component.sources],
                "installed": is_file(component_file(component.name, folder)),
                "size_bytes": _size(component, folder),
            }
            for component in components
        ],
    }


def _size(component: Component, folder: Path) -> int | None:
    """Bytes of the installed file, or of the download if known offline."""
    path = component_file(component.name, folder)
    if is_file(path):
        return path.stat().st_size
    return sum(source.size_bytes for source in component.tensor_sources) or None


def list_text(components: Sequence[Component], folder: Path) -> str:
    """As `list_json`, as two tables."""
    facts = list_json(components, folder)
    models = [
        (
            model["name"],
            "embedded" if model["embedded"] else _yes(model["installed"]),
            model["licence"],
            " + ".join(model["components"]) or "-",
            model["summary"],
        )
        for model in facts["models"]
    ]
    files = [
        (
            found["name"],
            _yes(found["installed"]),
            format_bytes(found["size_bytes"]) if found["size_bytes"] else UNKNOWN,
            found["licence"] + (", accept it on the hub" if found["gated"] else ""),
            found["summary"],
        )
        for found in facts["components"]
    ]
    lines = [
        f"weights folder: {folder}",
        "",
        _table([("MODEL", "INSTALLED", "LICENCE", "COMPONENTS", ""), *models]),
        "",
        _table([("COMPONENT", "INSTALLED", "SIZE", "LICENCE", ""), *files]),
    ]
    if any(size == UNKNOWN for _, _, size, _, _ in files):
        lines += ["", f"{UNKNOWN}: unknown offline; --dry-run asks the hub"]
    return "\n".join(lines)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def plan_json(plan: InstallPlan) -> dict[str, Any]:
    """An installation's plan; sizes in bytes."""
    return {
        "folder": str(plan.folder),
        "present": [component.name for component in plan.present],
        "wanted": [component.name for component in plan.wanted],
        "converted": [component.name for component in plan.converted],
        "files": [
            {
                "component": component.name,
                "repository": file.source.repository,
                "path": file.source.path,
                "licence": component.licence,
                "size_bytes": file.size_bytes,
                "missing_bytes": file.missing_bytes,
                "from": file.place,
            }
            for component in plan.wanted
            for file in plan.files.get(component.name, ())
        ],
        "download_bytes": plan.download_bytes,
        "needed_bytes": plan.needed_bytes,
        "free_bytes": plan.free_bytes,
    }


def plan_text(plan: InstallPlan) -> str:
    """Every file with size, licence and source, and the disk space."""
    lines = [f"{component.name} is installed" for component in plan.present]
    lines += [
        f"{component.name} will be converted from installed files" for component in plan.converted
    ]
    if plan.files:
        rows = [
            (
                component.name,
                f"{file.source.repository}/{file.source.path}",
                format_bytes(file.size_bytes),
                component.licence,
                _have_text(file),
            )
            for component in plan.wanted
            for file in plan.files.get(component.name, ())
        ]
        lines.append(_table([("COMPONENT", "FILE", "SIZE", "LICENCE", ""), *rows]))
    lines.append(
        f"{format_bytes(plan.download_bytes)} to download; {plan.folder} needs up to "
        f"{format_bytes(plan.needed_bytes)}, {format_bytes(plan.free_bytes)} free"
    )
    return "\n".join(lines)


def _have_text(file: Located) -> str:
    missing = file.missing_bytes
    if file.remote is None:
        return f"from {file.place}"
    if missing == 0:
        return "already downloaded"
    if missing < file.size_bytes:
        return f"{format_bytes(file.size_bytes - missing)} already downloaded"
    return "to download"


def verified_text(found: Sequence[Verified]) -> str:
    """One line per component."""
    return _table([(one.component, one.state, one.detail) for one in found])


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
