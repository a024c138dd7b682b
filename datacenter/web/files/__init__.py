"""Files that browsers and programs send and receive: uploads, downloads, exports and papers."""
