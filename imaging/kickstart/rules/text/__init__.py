"""Rules about syntax of commands and scripts."""
