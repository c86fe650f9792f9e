"""One video on disk: from a command to a finished file, over segments that can be resumed.

Open `run.py` first: `run_job` restores what is missing and joins the parts; `plan_job.py` checks and plans before.
"""
