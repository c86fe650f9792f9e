#!/usr/bin/env bash
# Upscales a folder of videos and every folder in it, such as the seasons of a series, into the same tree elsewhere.
# After a crash, a power cut or Ctrl-C run it again: finished videos are skipped, and the current one resumes.
#
#   upscale-folder.sh series/ large/ --scale 2 --crf 20
set -u

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER OUTPUT [OPTIONS OF starvsr upscale]" >&2
    exit 2
fi
source=$(cd "$1" && pwd -P) || exit 3
mkdir -p "$2" || exit 7
output=$(cd "$2" && pwd -P) || exit 7
shift 2
case $source/ in
    "$output"/?*/)
        echo "error: $output contains $source, whose videos results could replace: give another output" >&2
        exit 2
        ;;
esac

cd "$source" || exit 3
code=0
# Hidden folders are skipped, and so is the output if it is inside.
while IFS= read -r -d '' folder; do
    case $output/ in "$source"/?*/) case $source/${folder#./}/ in "$output"/*) continue ;; esac ;; esac
    target=$output/${folder#./}
    echo "== $folder" >&2
    mkdir -p "$target"
    starvsr upscale "$folder" "$target" --keep-going --log-file "$output/starvsr.log" "$@" </dev/null
    result=$?
    rmdir "$target" 2>/dev/null
    case $result in
        0) ;;
        3) echo "skipped: there is no video in it" >&2 ;;
        6) code=6 ;;
        8) [ "$code" != 0 ] || code=8 ;;
        # Usage, weights, memory, an interrupt: the next folder would fail too.
        *) exit "$result" ;;
    esac
done < <(find . -name '.?*' -prune -o -type d -print0 | sort -z)
exit "$code"
