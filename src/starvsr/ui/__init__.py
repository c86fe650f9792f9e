"""A local page in the browser; it runs the commands of the command line."""
