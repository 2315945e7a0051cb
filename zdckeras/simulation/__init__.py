"""The embedded reference simulation: primaries, transport, and showers from Geant4 libraries."""
