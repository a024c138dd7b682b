"""The linter's rules, by subject. A new rule is a new function in one of these modules; nothing else changes."""
