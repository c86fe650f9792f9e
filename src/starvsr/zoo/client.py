"""huggingface_hub, imported once the variables that it reads on import are known to be valid.

Importing this raises WeightsError if they are not; the library's own errors do not say what to change.
"""

from __future__ import annotations

from starvsr.zoo.environment import check_hub_variables

check_hub_variables()

from huggingface_hub import constants, get_hf_file_metadata, try_to_load_from_cache  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The base of what the hub's HTTP client raises, whichever client that is.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # noqa: E402
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]  # noqa: E402

__all__ = [
    "ClientError",
    "EntryNotFoundError",
    "GatedRepoError",
    "HfHubHTTPError",
    "OfflineModeIsEnabled",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "build_hf_headers",
    "constants",
    "get_hf_file_metadata",
    "get_session",
    "hf_raise_for_status",
    "try_to_load_from_cache",
]
