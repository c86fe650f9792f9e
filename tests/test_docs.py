"""Documents that are generated say what their generators say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_of_windows_is_the_planners() -> None:
    spec = importlib.util.spec_from_file_location(
        "memory_table", ROOT / "benchmarks" / "memory_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    text = (ROOT / "docs" / "memory.md").read_text()
    table = text.split(generator.BEGIN)[1].split(generator.END)[0]
    assert table.strip() == generator.table().strip(), "python benchmarks/memory_table.py --write"
