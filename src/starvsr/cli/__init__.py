"""The command line: parse, show progress, print messages, choose exit codes. The only layer that prints or exits."""
