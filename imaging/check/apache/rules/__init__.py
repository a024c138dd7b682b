"""The rules of the Apache 2.4 STIGs that a configuration can answer, by subject; each is a function with `@rule`."""
