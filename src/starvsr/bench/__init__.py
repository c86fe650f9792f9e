"""How fast this machine is at the program's work: its ceilings, networks' calls, and a whole job."""
