"""How close generated showers are to real ones."""
