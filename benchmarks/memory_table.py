"""The table of docs/memory.md: which windows a memory limit leaves each model, by the planner's own rules.

    python benchmarks/memory_table.py [--write]

Predictions, not measurements; `benchmarks/memory_model.py` measures how good they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from starvsr.errors import MemoryLimitError
from starvsr.options import BYTES_PER_ELEMENT, DeviceOptions
from starvsr.plan.fitting import fitted_layout
from starvsr.plan.layout import largest_picture, largest_window
from starvsr.plan.memory import RESERVE_BYTES
from starvsr.plan.settings import resolve
from starvsr.plan.windows import frames_of
from starvsr.specs import SPECS
from starvsr.types import ModelSpec

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "1440p": (1440, 2560), "2160p": (2160, 3840)}
LIMITS_GIB = (2, 4, 6, 8, 12, 16, 24, 48, 80)
ROWS = (
    ("star-light", "fp16"),
    ("star-light", "fp32"),
    ("star-cogvideox", "bf16"),
    ("nano", "fp32"),
)
FRAMES = 160
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
DOCUMENT = Path(__file__).parent.parent / "docs" / "memory.md"


def cell(spec: ModelSpec, precision: str, size: tuple[int, int], limit_gib: int) -> str:
    """Window, decoded block and offload for one size and limit."""
    try:
        layout = fitted_layout(
            spec,
            resolve(spec),
            size,
            min(FRAMES, spec.segment_frames),
            DeviceOptions(memory_limit_bytes=limit_gib << 30),
            bytes_per_element=BYTES_PER_ELEMENT[precision],
            # What a run on a GPU of this size plans with.
            limit_bytes=(limit_gib << 30) - RESERVE_BYTES,
        )
    except MemoryLimitError:
        return "does not fit"
    factor, time_factor = spec.autoencoder.factor, spec.autoencoder.time_factor
    frames, rows, columns = largest_window(spec, layout)
    text = f"{frames_of(frames, time_factor)} x {columns * factor}x{rows * factor}"
    if layout.autoencoder.weights:
        frames, rows, columns = largest_picture(layout)
        text += f"; {frames_of(frames, time_factor)} x {columns * factor}x{rows * factor}"
    return text if layout.offload == "none" else f"{text}; {layout.offload}"


def table() -> str:
    """Markdown: a table for each model and precision."""
    parts = []
    for name, precision in ROWS:
        head = " | ".join(("limit", *SIZES))
        rows = [f"| {head} |", "|---" * (len(SIZES) + 1) + "|"]
        for limit in LIMITS_GIB:
            cells = [cell(SPECS[name], precision, size, limit) for size in SIZES.values()]
            rows.append(f"| {limit} GiB | {' | '.join(cells)} |")
        parts.append(f"### {name}, {precision}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    if not parser.parse_args().write:
        print(table())
        return
    before, rest = DOCUMENT.read_text().split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
