"""Particles and the responses of detectors to them: in memory, on disk, and as numbers that networks like."""
