"""The settings: their declarations and rules, and how they are read from a file and the environment."""
