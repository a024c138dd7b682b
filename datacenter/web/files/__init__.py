"""Downloads of stored files, exports of statuses, and the filing of papers, for pages and API."""
