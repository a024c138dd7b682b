"""The profiles of instrument models: one TOML file for each, read by `settings.profile`."""
