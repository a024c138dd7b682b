"""From a kickstart to a flashed disk: assembling, checking, building, signing and writing images of the box."""
