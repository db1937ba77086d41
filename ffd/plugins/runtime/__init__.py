"""Runtimes: what runs gangs. Each file is one implementation of ports.Runtime; they do not know each other."""
