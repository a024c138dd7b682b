"""Files that staff and programs receive, downloads and exports, and the papers that they file."""
