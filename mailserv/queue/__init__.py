"""When? States, schedule, the dispatcher and the worker threads."""
