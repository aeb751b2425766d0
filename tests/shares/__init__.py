"""The shares of sources, apart from what they are shares of."""
