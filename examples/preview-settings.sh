#!/usr/bin/env bash
# Previews a few seconds of a video with several settings, each beside the input, with the time and size of the whole.
# Every setting is one argument.
#
#   preview-settings.sh film.mkv previews/ 5 0:12:30 "--blend 0" "--blend 0.3" "--color-fix wavelet --crf 20"
set -u
export LC_ALL=C

if [ $# -lt 5 ]; then
    echo "usage: $0 VIDEO FOLDER SECONDS AT SETTING..." >&2
    exit 2
fi
video=$1 folder=$2 seconds=$3 at=$4
shift 4
mkdir -p "$folder" || exit 7

# A number from the output of --json.
fact() {
    printf '%s' "$facts" | sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p"
}

for setting in "$@"; do
    read -ra options <<<"$setting"
    # `--crf 20 --sharpen -0.3` becomes `crf_20_sharpen_-0.3`.
    name=$(printf '%s' "$setting" | sed 's/--//g' | tr -cs '[:alnum:].-' '_' | sed 's/^_*//; s/_*$//')
    facts=$(starvsr upscale "$video" "$folder/$name.mkv" --preview "$seconds" --at "$at" \
        --json --quiet --overwrite "${options[@]}") || exit
    printf '%-40s whole video: %8.0f s %10.1f MB   %s\n' "$setting" "$(fact whole_s)" \
        "$(fact whole_bytes | awk '{ print $1 / 1000000 }')" "$folder/$name-preview.mkv"
done
