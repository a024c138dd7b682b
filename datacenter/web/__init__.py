"""The staff's web pages: route table, sign-in, pages and their data."""
