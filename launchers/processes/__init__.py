"""A service of several processes: a supervisor, who serves nobody, and workers, who each serve as one process does.

They speak over socket pairs, in lines of JSON, of which each has a word for what it is about under `say`. A supervisor
starts workers and never forks itself; whichever of the two is gone, the other one hears of it by the closed pair.
"""
