"""Real files: `python -m tests.corpus DIR` restores every one of a folder and says what differs by ffprobe."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.corpus.accepted import reason_for
from tests.corpus.cases import LONGEST_S, OPTIONS, Record, not_compared, run_file
from tests.corpus.difference import Difference
from tests.corpus.ffprobe import FfprobeError, tool
from tests.fuzz.worker import Worker

_STATES = ("restored", "damaged", "refused by both", "ffprobe cannot", "refused", "failed")
_COLUMNS = ("files", *_STATES, "told", "accepted", "wrong", "seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 where anything is wrong, 2 where the tools or the folder are missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="a folder of media files; a row of the table for each subfolder"
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("build/corpus.jsonl"),
        help="a line of JSON a file; files that have one are not run again (default %(default)s)",
    )
    parser.add_argument(
        "--only", default="", help="run and report only files whose path contains this"
    )
    parser.add_argument(
        "--options", default="", help="more options of plan and upscale, in one argument"
    )
    options = parser.parse_args(arguments)
    try:
        for name in ("ffprobe", "ffmpeg"):
            tool(name)
        files = _files(options.folder)
    except (FfprobeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = [file for file in files if options.only in str(file.relative_to(options.folder))]
    known = _known(options.report)
    records = list(_run(options.folder, files, known, options.report, options.options.split()))
    return report(records)


def _files(folder: Path) -> list[Path]:
    """Every file but hidden ones, the smallest first. Raises OSError if there is no folder, or no file."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: give one of media files")
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise FileNotFoundError(f"{folder} contains no file")
    return sorted(found, key=lambda path: (path.stat().st_size, path))


def _known(report: Path) -> dict[str, Record]:
    """Records of an earlier run; a last line that was not written to its end is left out."""
    known = {}
    for line in report.read_text().splitlines() if report.exists() else ():
        try:
            record = Record.from_json(json.loads(line))
        except ValueError:
            continue
        known[record.file] = record
    return known


def _run(
    folder: Path,
    files: Sequence[Path],
    known: dict[str, Record],
    report: Path,
    options: Sequence[str],
) -> Iterator[Record]:
    report.parent.mkdir(parents=True, exist_ok=True)
    if report.exists() and not report.read_bytes().endswith(b"\n"):
        with report.open("a") as lines:
            lines.write("\n")
    worker = Worker(LONGEST_S)
    try:
        for number, file in enumerate(files, start=1):
            record = known.get(str(file.relative_to(folder)))
            if record is None:
                try:
                    record = run_file(folder, file, worker, options)
                except Exception as error:
                    record = not_compared(folder, file, error)
                with report.open("a") as lines:
                    lines.write(json.dumps(record.as_json()) + "\n")
                print(f"{number}/{len(files)} {record.state}, {record.seconds:.1f} s, {len(record.wrong)} wrong: "
                      f"{record.file}", file=sys.stderr, flush=True)  # fmt: skip
            yield record
    finally:
        worker.stop()


def report(records: Sequence[Record]) -> int:
    """Print the table, what is accepted and what is wrong; 1 where anything is wrong or nothing was restored."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    wrong: list[tuple[str, Difference]] = []
    for record in records:
        row = rows[record.file.split("/")[0] if "/" in record.file else "."]
        row.update({"files": 1, record.state: 1, "told": len(record.told)})
        row["seconds"] += round(record.seconds)
        for difference in record.wrong:
            reason = reason_for(record.file, difference)
            row["wrong" if reason is None else "accepted"] += 1
            if reason is None:
                wrong.append((record.file, difference))
            else:
                reasons[reason] += 1
    _table(rows)
    for reason, count in reasons.most_common():
        print(f"accepted {count} x {reason}")
    for file, each in sorted(wrong, key=lambda pair: (pair[1].field, pair[0])):
        print(f"{each.field}: {each.source} -> {each.output}: {file}")
    for record in records:
        if record.state == "ffprobe cannot":
            print(f"restored and not compared, since ffprobe cannot read it: {record.file}")
    print(f"{len(records)} files, {len(wrong)} differences are wrong")
    return int(bool(wrong) or not any(record.state == "restored" for record in records))


def _table(rows: dict[str, Counter[str]]) -> None:
    total = sum(rows.values(), Counter())
    width = max(map(len, [*rows, "all"]))
    print(f"whole files, upscale {' '.join(OPTIONS)}, at most {LONGEST_S:.0f} s a command")
    print(" " * width, *_COLUMNS, sep="  ")
    for name, row in [*sorted(rows.items()), ("all", total)]:
        print(
            name.ljust(width),
            *(str(row[column]).rjust(len(column)) for column in _COLUMNS),
            sep="  ",
        )


if __name__ == "__main__":
    sys.exit(main())
