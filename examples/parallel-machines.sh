#!/bin/sh
# Upscales a folder of videos on several machines that share it: run this on each of them, several times on one with
# several GPUs, or as a SLURM array. A video belongs to whoever creates its folder in .claims first.
# After a crash run it again: the interrupted video resumes after its last finished segment.
#
#   parallel-machines.sh /shared/in /shared/out --model star-light
#   sbatch --array=1-8 --gres=gpu:1 parallel-machines.sh /shared/in /shared/out --model star-light
set -u

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER OUTPUT [OPTIONS OF starvsr upscale]" >&2
    exit 2
fi
source=${1%/} output=${2%/}
shift 2
host=$(uname -n)
claims=$output/.claims
mkdir -p "$claims" || exit 7
if [ "$source" -ef "$output" ]; then
    echo "error: the output is the folder of the videos: give another" >&2
    exit 2
fi

# Posters, subtitles, notes and what is not complete lie beside videos.
is_video() {
    case $(printf '%s' "${1##*.}" | tr '[:upper:]' '[:lower:]') in
        jpg | jpeg | png | webp | bmp | tif | tiff | txt | nfo | srt | ass | ssa | vtt | sub | idx | xml | json | \
            csv | md | html | log | toml | yaml | m3u | m3u8 | mp3 | wav | flac | m4a | aac | ac3 | mka | \
            part | tmp | torrent | zip | rar | 7z | md5 | sfv | db | ini | url) return 1 ;;
    esac
}

# Release what this machine claimed before it crashed.
for claim in "$claims"/*/"$host".*; do
    [ -e "$claim" ] || continue
    kill -0 "${claim##*.}" 2>/dev/null && continue
    # Of several that start at once only one removes the file; by then the folder may be claimed again.
    rm "$claim" 2>/dev/null && rmdir "$(dirname "$claim")"
done

child=
code=0
trap 'if [ -n "$child" ]; then kill -TERM "$child"; else exit 143; fi' INT TERM
for video in "$source"/*; do
    [ -f "$video" ] || continue
    name=$(basename "$video")
    is_video "$name" || continue
    target=$output/${name%.*}.mkv
    # So that x.avi and x.ts do not become one file.
    for other in "$source/${name%.*}".*; do
        if [ "$other" != "$video" ] && is_video "$other"; then target=$output/$name.mkv; fi
    done
    [ -e "$target" ] && continue
    mkdir "$claims/$name" 2>/dev/null || continue
    : >"$claims/$name/$host.$$"
    # Another machine may have finished it a moment ago.
    if [ ! -e "$target" ]; then
        # In the background, so that a signal to this script reaches it.
        starvsr upscale "$video" "$target" "$@" &
        child=$!
        wait "$child"
        result=$?
        while kill -0 "$child" 2>/dev/null; do
            wait "$child"
            result=$?
        done
        child=
    else
        result=0
    fi
    rm -r "${claims:?}/$name"
    case $result in
        0 | 8) ;;
        130 | 143) exit "$result" ;;
        *) code=6 ;;
    esac
done
if rmdir "$claims" 2>/dev/null; then
    exit "$code"
fi
echo "others are at work on, or crashed at (then remove the folder):" >&2
ls -d "$claims"/*/ >&2
exit "$code"
