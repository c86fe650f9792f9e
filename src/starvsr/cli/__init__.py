"""The command line: parses, shows progress, prints messages, chooses exit codes. The only room that prints or exits.

Open `app.py` first: every subcommand, and how errors become exit codes.
"""
