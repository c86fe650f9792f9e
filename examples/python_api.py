"""Both ways to use starvsr from Python: a whole video file, and frames in memory.

python examples/python_api.py examples/butterfly.mp4 butterfly-2x.mp4
"""

import sys

import torch

import starvsr


def show(progress: starvsr.Progress) -> None:
    print(f"\r{progress.stage}: {progress.done:.0f} of {progress.total}  ", end="", flush=True)


def upscale_file(source: str, target: str, model: str) -> None:
    options = starvsr.UpscaleOptions(
        model=model,
        size=starvsr.SizeOptions(scale=2),
        range=starvsr.RangeOptions(frames=8),
        overwrite=True,
    )
    result = starvsr.upscale_video(source, target, options, progress=show)
    print(f"\n{result.target}: {result.frames} frames of {result.width}x{result.height}")


def upscale_frames(frames: torch.Tensor, model: str) -> torch.Tensor:
    """t 3 h w in [0, 1] -> t 3 2h 2w in [0, 1]."""
    restorer = starvsr.Restorer.from_name(model)
    return restorer(frames, scale=2)


def main(source: str, target: str, model: str = "auto") -> None:
    try:
        upscale_file(source, target, model)
    except starvsr.StarvsrError as error:
        sys.exit(f"error: {error}")
    restored = upscale_frames(torch.rand(3, 3, 18, 32), model)
    print(f"frames in memory: {tuple(restored.shape)}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/python_api.py INPUT OUTPUT [MODEL]")
    main(*sys.argv[1:])
