"""In which pieces networks compute: the networks go by these numbers, and the memory model counts with them."""

HIDDEN_ELEMENTS = 2**22
"""How many hidden elements of a feed-forward are computed at once without autograd."""

STRIP_ELEMENTS = 2**20
"""Weights of attention that the CPU holds at once (`models.strips`), 4 MiB: they stay in the cache."""

STRIP_TOKENS = 256
"""Queries of a strip at most, and with fewer queries or keys there is too little in a product."""

KEPT_HINTS_BYTES = 2**27
"""Of the hint's half of all windows' tokens, which is the same at every step: what is kept on the device. That is two
usual windows in bf16, a segment of 720x480. More would keep weights off a device of 12 GiB; what finds no room is made
again, which is one thirty-thousandth of a call."""
