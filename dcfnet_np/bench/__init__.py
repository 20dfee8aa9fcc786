"""Where the time of tracking and training goes: stages beside their floors, CPU and GPU."""
