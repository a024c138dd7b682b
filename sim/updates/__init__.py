"""Updates in the virtual world: signed releases of tiny slots, and a machine with two slots and a boot loader."""
