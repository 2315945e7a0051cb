"""Fast generative simulation of calorimeter showers in Keras 3."""
