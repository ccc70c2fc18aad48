"""The Hydra shell: from the command line to a config, from a config to objects."""
