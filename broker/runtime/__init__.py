"""Processes and their surroundings: launcher, worker, Redis server, threads, fetching, health."""
