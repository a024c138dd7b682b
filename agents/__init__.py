"""The box program and the instrument agent."""
