"""Where the time of tracking and training goes: stages beside their floors, on a CPU and on a GPU."""
