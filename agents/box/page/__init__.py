"""The local page: where a person at an instrument permits, watches and ends remote sessions."""
