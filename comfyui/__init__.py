"""Nodes for ComfyUI that upscale videos and batches of images with starvsr; see docs/comfyui.md.

Nothing of ComfyUI is imported before a node is used, and of starvsr nothing slow.
"""

from .images import UpscaleImages
from .models import LoadModel
from .video import UpscaleVideo

NODE_CLASS_MAPPINGS = {
    "StarvsrLoadModel": LoadModel,
    "StarvsrUpscaleVideo": UpscaleVideo,
    "StarvsrUpscaleImages": UpscaleImages,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "StarvsrLoadModel": "starvsr Load Model",
    "StarvsrUpscaleVideo": "starvsr Upscale Video",
    "StarvsrUpscaleImages": "starvsr Upscale Images",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
