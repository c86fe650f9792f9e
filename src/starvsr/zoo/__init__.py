"""Models as files: finding, loading, saving and converting them."""
