"""Updates of the box: fetches a release into the slot that is not in use, tries it, and commits it or returns.

`table` decides, `updater` does what it says; everything that must survive a power cut is in `memory` and in the slot
state of the boot loader (`boot_state`).
"""
