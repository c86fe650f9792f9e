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
    """What `build` makes of a configuration, with the given parameters as they are, ready to run.

    what: names it in messages. inner: the part that has the parameters, where this version of the library has it.
    Raises ValueError where they are not those of the configuration.
    """
    try:
        with torch.device("meta"):
            module = build()
        getattr(module, inner, module).load_state_dict(dict(state), assign=True)
    # The library does not expect what a configuration may hold.
    except Exception as error:
        raise ValueError(
            f"the {what} does not fit its configuration: {first_words(error)}"
        ) from error
    return module.requires_grad_(False).eval()
