"""The staff's web pages and the API for programs: route table, sign-in, access checks and responses."""
