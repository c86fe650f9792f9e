"""Modules of other libraries, diffusers' and transformers', with parameters from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from starvsr.media.strict_json import first_words


def loaded_module(
    what: str, build: Callable[[], Any], state: Mapping[str, Tensor], *, inner: str = ""
) -> Any:
    """The module that `build` creates, with these parameters (not copied), in evaluation mode and without gradients.

    what: its name in messages. inner: the submodule that has the parameters in some versions of the library. Raises
    ValueError if the parameters do not match the configuration.
    """
    try:
        with torch.device("meta"):
            module = build()
        getattr(module, inner, module).load_state_dict(dict(state), assign=True)
    # The library does not validate a configuration.
    except Exception as error:
        raise ValueError(
            f"the {what} does not fit its configuration: {first_words(error)}"
        ) from error
    return module.requires_grad_(False).eval()
