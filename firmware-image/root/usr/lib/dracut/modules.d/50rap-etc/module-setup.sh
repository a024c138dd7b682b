#!/bin/bash
# dracut's module that makes /etc at each start (rap-etc.sh).

check() {
    return 255 # included only if it is requested
}

depends() {
    return 0
}

installkernel() {
    hostonly='' instmods overlay
}

install() {
    inst_multiple mkdir modprobe mount sed tr umount
    # after the check of the kernel in FIPS mode
    inst_hook pre-pivot 50 "${moddir:?}/rap-etc.sh"
}
