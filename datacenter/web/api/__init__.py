"""The API for programs (`/api/v1/…`): rows of the same route table as the pages, with JSON representations."""
