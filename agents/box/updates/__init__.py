"""Updates of the box: fetches a release into the inactive slot, tries it, and commits or reverts it. `table` decides,
`updater` executes the decisions; all state that must survive a power cut is in `memory` and in the slot state of the
boot loader (`boot_state`).
"""
