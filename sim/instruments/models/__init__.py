"""One module a model of analyzer, each with a `MODEL`. Where the figures come from: docs/design/instruments.md."""
