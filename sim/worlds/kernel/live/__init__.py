"""A lab that stays up: requests from other processes, and its state on the screen."""
