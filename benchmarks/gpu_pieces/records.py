"""Results: JSON lines in a file that later runs add to, and a Markdown table of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""`machine`, `command`, `piece`, `case`, `took_s`, and `result` or `error`."""

_SAME = ("card", "torch", "sizes")
"""What of a machine a finished case is not repeated for."""


def read_records(path: Path) -> list[Record]:
    """All whole lines; a run that was killed may leave part of one."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def add_record(path: Path, record: Record) -> None:
    """Append one, on a line of its own also after part of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write(("\n" if begun else "") + json.dumps(record) + "\n")


def finished(
    records: Iterable[Record], machine: Mapping[str, str], *, failed: bool
) -> set[tuple[str, str]]:
    """Piece and case of what is done on such a machine; failed: those that failed too."""
    return {
        (record["piece"], record["case"])
        for record in records
        if all(record["machine"].get(key) == machine.get(key) for key in _SAME)
        and (failed or "result" in record)
    }


def markdown(records: Sequence[Record]) -> str:
    """A table for each machine and piece; of cases that were repeated the last result."""
    machines: dict[str, list[Record]] = {}
    for record in records:
        machines.setdefault(json.dumps(record["machine"]), []).append(record)
    return "\n".join(_of_machine(json.loads(key), found) for key, found in machines.items())


def _of_machine(machine: Mapping[str, str], records: Sequence[Record]) -> str:
    described = "; ".join(f"{name} {value}" for name, value in machine.items() if value)
    commands = dict.fromkeys(record["command"] for record in records)
    lines = [f"## {machine.get('card', '?')}", "", described, ""]
    lines += [f"`{command}`" for command in commands]
    pieces: dict[str, dict[str, Record]] = {}
    for record in records:
        pieces.setdefault(record["piece"], {})[record["case"]] = record
    for piece, cases in pieces.items():
        lines += ["", f"### {piece}", "", *_table(list(cases.values()))]
    return "\n".join(lines) + "\n"


def _table(records: Sequence[Record]) -> list[str]:
    """Plain values are columns; lists and mappings follow as lines, and what failed at the end."""
    done = [(record["case"], record["result"]) for record in records if "result" in record]
    plain = [
        (case, {name: value for name, value in result.items() if not _is_nested(value)})
        for case, result in done
    ]
    rows = [(case, result) for case, result in plain if result]
    names = list(dict.fromkeys(name for _, result in rows for name in result))
    heads = ["case", *(name.replace("_bytes", ", GiB") for name in names)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"] if rows else []
    for case, result in rows:
        cells = [case, *(shown(name, result.get(name)) for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    for case, result in done:
        for name, value in result.items():
            if _is_nested(value):
                lines += ["", f"{case}, {name}:", "", *_listed(value)]
    failed = [record for record in records if "error" in record]
    lines += [f"\n{record['case']} failed: {record['error']['message']}" for record in failed]
    return lines


def _is_nested(value: object) -> bool:
    return isinstance(value, (list, dict))


def _listed(value: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> list[str]:
    if isinstance(value, Mapping):
        return [", ".join(f"{name} {shown(name, each)}" for name, each in value.items())]
    rows = [" | ".join(shown(name, each) for name, each in row.items()) for row in value]
    heads = list(value[0]) if value else []
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {row} |" for row in rows)]


def shown(name: str, value: object) -> str:
    """A value as text: bytes in GiB, four digits of a fraction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.3f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "/")
