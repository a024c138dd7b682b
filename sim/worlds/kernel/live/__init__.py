"""A lab that keeps running: requests from other processes, and its state on the screen."""
