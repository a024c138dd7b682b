#!/bin/sh
# Makes /etc of this start: an overlay in memory over that of the root slot, which is never written. Everything in it is
# made again at each start, so that what an update changes in a default takes effect (rap-provision.service). dracut runs
# this before the system starts. A system without the kernel argument rap.volumes has no slots, and keeps its /etc.
#
# rap.volumes has the UUIDs of this disk's file systems by mount point. They cannot be in the slot, which has the same
# bytes on all disks: /var=UUID,/var/log=UUID
type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh

volumes=$(getarg rap.volumes=)
if [ -n "$volumes" ]; then
    modprobe -q overlay
    layers=/run/rap-etc
    options="lowerdir=$NEWROOT/etc,upperdir=$layers/upper,workdir=$layers/work,nodev,nosuid"
    # a mount of its own, whose labels systemd does not change when it relabels /run
    mkdir -p "$layers" \
        && mount -t tmpfs -o mode=0755,size=64m,nodev,nosuid rap-etc "$layers" \
        && mkdir "$layers/upper" "$layers/work" \
        && mount -t overlay -o "$options" rap-etc "$NEWROOT/etc" \
        && umount -l "$layers" \
        || die "/etc cannot be made"
    for volume in $(echo "$volumes" | tr , ' '); do
        place=${volume%%=*}
        sed -i "s#^[^ ]* $place #UUID=${volume#*=} $place #" "$NEWROOT/etc/fstab" || die "/etc/fstab cannot be made"
    done
fi
