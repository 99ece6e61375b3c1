"""Limits of numbers that people give: beyond them a run would hang or exhaust the machine.

They are far above what any published experiment uses. A larger number is a slip.
"""

LARGEST_NUMBER = 10**15  # of any setting; bytes of an archive are the largest honest ones
MOST_WORKERS = 256  # processes
MOST_THREADS = 1024
MOST_ITERATIONS = 100_000_000
MOST_BATCH = 4096
MOST_CLIP_FRAMES = 1000
MOST_OBJECTS = 254  # ids that an index mask can hold
MOST_CLIPS = 100_000_000
MOST_REPEATS = 10_000
LONGEST_SIDE = 32_768  # pixels
